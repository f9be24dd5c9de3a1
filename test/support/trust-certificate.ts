/**
 * Runs in a guest, as root: makes the kernel trust a certificate (a DER file) for signatures of root hashes, then seals
 * the keyring. Linux 7.2 has this keyring, and leaves it open when dm-verity is loaded with `keyring_unsealed=1`.
 */
import { readFileSync } from 'node:fs';
import koffi from 'koffi';

/** add_key(2) and keyctl(2) on x86-64. */
const SYS_ADD_KEY = 248;
const SYS_KEYCTL = 250;
const KEYCTL_RESTRICT_KEYRING = 29;

const line = /^([0-9a-f]+) .* keyring +\.dm-verity:/m.exec(readFileSync('/proc/keys', 'utf8'));
if (line === null) throw new Error('this kernel has no keyring for dm-verity');
const ring = Number.parseInt(line[1]!, 16);
const certificate = readFileSync(process.argv[2]!);
const library = koffi.load(null);
const addKey = library.func('syscall', 'long', ['long', 'str', 'str', 'void *', 'size_t', 'int']);
const keyctl = library.func('syscall', 'long', ['long', 'long', 'long', 'void *', 'void *']);
if (addKey(SYS_ADD_KEY, 'asymmetric', 'signer', certificate, certificate.length, ring) === -1)
  throw new Error(`the kernel does not take the certificate: errno ${koffi.errno()}`);
if (keyctl(SYS_KEYCTL, KEYCTL_RESTRICT_KEYRING, ring, null, null) === -1)
  throw new Error(`the keyring cannot be sealed: errno ${koffi.errno()}`);
