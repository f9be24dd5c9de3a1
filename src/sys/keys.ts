/** Kernel keys, keyrings(7). */
import { check, cString } from './error.ts';
import { libc } from './libc.ts';

/** add_key(2) on x86-64 and on arm64. */
const SYS_ADD_KEY = process.arch === 'arm64' ? 217 : 248;
const KEY_SPEC_THREAD_KEYRING = -1;

/** Puts bytes where the kernel finds them by `description` while this thread lives. */
export function addUserKey(description: string, payload: Buffer): void {
  const result = libc('addKey')(
    SYS_ADD_KEY,
    cString('user'),
    cString(description),
    payload,
    payload.length,
    KEY_SPEC_THREAD_KEYRING,
  );
  check(result, `add the key ${description}`);
}
