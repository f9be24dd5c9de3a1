/** sd_notify(3): node:net has no datagram sockets of the local kind. */
import { closeSync, writeSync } from 'node:fs';
import { check, cString } from './error.ts';
import { libc } from './libc.ts';

// <sys/socket.h>, the same on every architecture that Node runs on.
const AF_UNIX = 1;
const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = 0o2000000;
const PATH_MAX = 107;

/**
 * Tells the service manager `state` (`READY=1`). `address` is `$NOTIFY_SOCKET`: a path, or a name that begins with @
 * and is in no file system.
 */
export function notifyManager(address: string, state: string): void {
  const path = cString(address).subarray(0, -1);
  if (path.length === 0 || path.length > PATH_MAX) return;
  if (path[0] === 0x40) path[0] = 0;
  // sockaddr_un: the family in the machine's order, then the name; one with a leading NUL ends where the address does.
  const name = Buffer.alloc(2 + path.length + (path[0] === 0 ? 0 : 1));
  new Uint16Array(name.buffer, name.byteOffset, 1)[0] = AF_UNIX;
  name.set(path, 2);
  const fd = check(libc('socket')(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), 'make a socket');
  try {
    check(libc('connect')(fd, name, name.length), `connect to ${address}`);
    writeSync(fd, state);
  } finally {
    closeSync(fd);
  }
}
