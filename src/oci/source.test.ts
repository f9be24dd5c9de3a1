import assert from 'node:assert/strict';
import { it, describe as suite } from 'node:test';
import { imageBlobs, makeImage, type TestBlob } from '../../test/support/images.ts';
import { AMD64, withCode } from '../../test/support/pull-source.ts';
import { VeneerError } from '../errors.ts';
import type { Descriptor } from './descriptor.ts';
import { isRetryable, type ReadDocument, readChecked, resolveAmong } from './source.ts';

const image = makeImage({ contents: [Buffer.from('x')] });
const descriptorOf = ({ mediaType, digest, size }: TestBlob): Descriptor => ({
  mediaType,
  digest,
  size,
  annotations: {},
});

/** Reads what it is told to, whatever is asked for. */
const reading =
  (...answers: Buffer[]): ReadDocument =>
  async () =>
    answers.shift()!;

suite('readChecked', () => {
  it('lets nothing through that is not what the descriptor says', async () => {
    const { bytes } = image.config;
    const descriptor = descriptorOf(image.config);
    assert.equal(await readChecked(reading(bytes), descriptor, 1000, 'it'), bytes);
    await assert.rejects(
      readChecked(reading(bytes.subarray(1)), descriptor, 1000, 'it'),
      withCode('oci/digest-mismatch'),
    );
    const changed = Buffer.from(bytes);
    changed[3]! ^= 1;
    await assert.rejects(
      readChecked(reading(changed), descriptor, 1000, 'it'),
      withCode('oci/digest-mismatch'),
    );
    // A size that lies, with a digest that does not.
    const lying = { ...descriptor, size: descriptor.size + 1 };
    await assert.rejects(
      readChecked(reading(bytes), lying, 1000, 'it'),
      withCode('oci/digest-mismatch', /descriptor says/),
    );
  });

  it('reads nothing that is too long', async () => {
    const never: ReadDocument = async () => assert.fail('it was read');
    await assert.rejects(
      readChecked(never, { ...descriptorOf(image.config), size: 1001 }, 1000, 'it'),
      withCode('oci/limit'),
    );
  });
});

suite('resolveAmong', () => {
  it('checks manifest and config', async () => {
    const [manifest, config] = imageBlobs(image) as [TestBlob, TestBlob];
    const entries = [descriptorOf(manifest)];
    const other = makeImage({ contents: [Buffer.from('y')] });
    const found = await resolveAmong(entries, AMD64, reading(manifest.bytes, config.bytes), 'it');
    assert.equal(found.manifestDigest, manifest.digest);
    for (const answers of [[other.manifest.bytes], [manifest.bytes, other.config.bytes]]) {
      await assert.rejects(
        resolveAmong(entries, AMD64, reading(...answers), 'it'),
        withCode('oci/digest-mismatch'),
      );
    }
  });
});

suite('isRetryable', () => {
  it('is for the network, not for the data', () => {
    assert.equal(isRetryable(new VeneerError('registry/unavailable', 'x')), true);
    assert.equal(isRetryable(new VeneerError('oci/digest-mismatch', 'x')), false);
    assert.equal(isRetryable(new Error('x')), false);
  });
});
