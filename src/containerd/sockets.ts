/** The sockets the daemon listens on: made here, or taken over from systemd. */
import { chmodSync, lstatSync, mkdirSync, unlinkSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { dirname } from 'node:path';
import { VeneerError } from '../errors.ts';

/** sd_listen_fds(3): sockets that the manager opened begin here. */
const FIRST_PASSED = 3;

/** Descriptors that systemd passed, by their `FileDescriptorName=`; empty when it passed none. */
export function passedSockets(env: NodeJS.ProcessEnv): Map<string, number> {
  const passed = new Map<string, number>();
  if (Number(env.LISTEN_PID) !== process.pid) return passed;
  const names = (env.LISTEN_FDNAMES ?? '').split(':');
  for (let i = 0; i < Number(env.LISTEN_FDS ?? 0); i++)
    passed.set(names[i] || `unnamed-${i}`, FIRST_PASSED + i);
  return passed;
}

/** Listens on an inherited descriptor. */
export async function listenPassed(fd: number, onConnection: (socket: Socket) => void): Promise<Server> {
  const server = createServer(onConnection);
  await listening(server, `descriptor ${fd}`, () => server.listen({ fd }));
  return server;
}

/**
 * Listens on a unix socket that only its owner may use. What a dead daemon left under the name is taken away.
 * Throws `serve/running` when somebody answers there, `serve/config` when it is anything but a socket.
 */
export async function listenUnix(path: string, onConnection: (socket: Socket) => void): Promise<Server> {
  mkdirSync(dirname(path), { recursive: true, mode: 0o711 });
  if (lstatSync(path, { throwIfNoEntry: false })?.isSocket() === false) {
    throw new VeneerError('serve/config', `Cannot listen on ${path}: something else than a socket is there`, {
      hint: 'give another --address (or --metrics), or move it away',
    });
  }
  if (await isAnswered(path)) {
    throw new VeneerError('serve/running', `Cannot listen on ${path}: another process does`, {
      hint: 'stop it, or give another --address',
    });
  }
  try {
    unlinkSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT')
      throw new VeneerError('io/failed', `Cannot take ${path} away: ${(error as Error).message}`, {
        cause: error,
      });
  }
  const server = createServer(onConnection);
  await listening(server, path, () => {
    // bind(2) makes the file within this call: nobody else gets in before its mode is right
    const mask = process.umask(0o177);
    try {
      server.listen(path);
    } finally {
      process.umask(mask);
    }
  });
  chmodSync(path, 0o600);
  return server;
}

/** Listens on HOST:PORT. */
export async function listenTcp(
  host: string,
  port: number,
  onConnection: (socket: Socket) => void,
): Promise<Server> {
  const server = createServer(onConnection);
  await listening(server, `${host}:${port}`, () => server.listen(port, host));
  return server;
}

async function listening(server: Server, where: string, start: () => void): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const fail = (cause: Error): void =>
      reject(new VeneerError('io/failed', `Cannot listen on ${where}: ${cause.message}`, { cause }));
    server.once('error', fail);
    server.once('listening', () => {
      server.off('error', fail);
      resolve();
    });
    start();
  });
}

function isAnswered(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}
