/**
 * Detached signatures of root hashes, made and checked by openssl: PKCS#7 in DER over the hash's hex digits, which is
 * what the kernel checks with `root_hash_sig_key_desc` (drivers/md/dm-verity-verify-sig.c) and what systemd and
 * veritysetup take.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { VeneerError } from '../errors.ts';

/** Signs the hex digits of `rootHash`. Throws `disk/unsupported` without openssl, `verity/mismatch` when it refuses. */
export function signRootHash(rootHash: string, key: string, certificate: string): Buffer {
  return withContent(rootHash, (content) =>
    openssl('sign the root hash', [
      'smime',
      '-sign',
      '-binary',
      '-noattr',
      '-nocerts',
      '-in',
      content,
      '-inkey',
      key,
      '-signer',
      certificate,
      '-outform',
      'der',
    ]),
  );
}

/**
 * Checks a signature against the certificate that must have made it (no chain of trust is followed: the kernel's keyring
 * holds the very certificates too). Throws `verity/mismatch`.
 */
export function checkSignature(rootHash: string, signature: string, certificate: string): void {
  withContent(rootHash, (content) =>
    openssl('accept the signature of the root hash', [
      'smime',
      '-verify',
      '-binary',
      '-inform',
      'der',
      '-in',
      signature,
      '-content',
      content,
      '-certfile',
      certificate,
      '-nointern',
      '-noverify',
    ]),
  );
}

function withContent<T>(text: string, work: (path: string) => T): T {
  const directory = mkdtempSync(join(tmpdir(), 'veneer-sign-'));
  try {
    const path = join(directory, 'root-hash');
    writeFileSync(path, text); // no line end: the kernel's has none
    return work(path);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

function openssl(what: string, args: readonly string[]): Buffer {
  try {
    return execFileSync('openssl', args, { stdio: ['ignore', 'pipe', 'pipe'] });
  } catch (error) {
    const { code, stderr } = error as { code?: unknown; stderr?: Buffer };
    if (code === 'ENOENT') {
      throw new VeneerError('disk/unsupported', `Cannot ${what}: openssl is not installed`, {
        hint: 'apt-get install openssl',
      });
    }
    const reason = stderr?.toString('utf8').trim().split('\n').at(-1) ?? String(error);
    throw new VeneerError('verity/mismatch', `Cannot ${what}: openssl says ${reason}`, { cause: error });
  }
}
