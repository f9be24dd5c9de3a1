import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { it } from 'node:test';
import { makeCertificates } from '../../test/support/certificates.ts';
import { checkSignature, signRootHash } from './signature.ts';

const HASH = 'ab'.repeat(32);

it('a root hash is signed and checked', async (t) => {
  const made = await makeCertificates(t, 'DNS:signer');
  const other = await makeCertificates(t, 'DNS:other');
  if (made === null || other === null) return;
  const { dir, key, certificate } = made;
  const signature = join(dir, 'root.p7s');
  const bytes = signRootHash(HASH, key, certificate);
  writeFileSync(signature, bytes);
  checkSignature(HASH, signature, certificate);
  assert.throws(() => checkSignature(HASH.replace('a', 'b'), signature, certificate), {
    code: 'verity/mismatch',
  });
  assert.throws(() => checkSignature(HASH, signature, other.certificate), { code: 'verity/mismatch' });
  const bad = Buffer.from(bytes);
  bad[bad.length - 10]! ^= 1;
  writeFileSync(signature, bad);
  assert.throws(() => checkSignature(HASH, signature, certificate), { code: 'verity/mismatch' });
  assert.throws(() => signRootHash(HASH, join(dir, 'absent'), certificate), { code: 'verity/mismatch' });
  // Detached, without attributes and certificates: what the kernel's verify_pkcs7_signature takes.
  const shown = execFileSync('openssl', ['asn1parse', '-inform', 'der'], { input: bytes, encoding: 'utf8' });
  assert.match(shown, /pkcs7-signedData/);
  assert.doesNotMatch(shown, /messageDigest|signingTime|OCTET STRING +\[HEX DUMP\]:6162/);
});
