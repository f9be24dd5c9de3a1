import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { temporaryDirectory } from '../../test/support/image-builder.ts';
import { VeneerError } from '../errors.ts';
import {
  type ChainRecord,
  type ImageRecord,
  type LayerRecord,
  type RemnantRecord,
  readChainRecord,
  readImageRecord,
  readLayerRecord,
  readRemnantRecord,
  recordText,
} from './records.ts';

const digest = (digit: string): string => `sha256:${digit.repeat(64)}`;

const LAYER: LayerRecord = {
  version: 1,
  diffId: digest('1'),
  tarSize: 10240,
  entries: 3,
  blob: { digest: digest('2'), size: 300, mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip' },
  needsChain: false,
  namesRoot: true,
  opaqueRoot: false,
  usesTar: true,
  image: { digest: digest('3'), size: 4096 },
};
const CHAIN: ChainRecord = {
  version: 1,
  chainId: digest('4'),
  diffIds: [digest('1'), digest('5')],
  image: { digest: digest('6'), size: 8192 },
  devices: [{ diffId: digest('1'), file: 'layer.tar', size: 10240 }],
};
const IMAGE: ImageRecord = {
  version: 1,
  name: 'app:latest',
  manifest: { digest: digest('7'), size: 500, mediaType: 'application/vnd.oci.image.manifest.v1+json' },
  config: { digest: digest('8'), size: 600, mediaType: 'application/vnd.oci.image.config.v1+json' },
  index: null,
  platform: 'linux/amd64',
  layers: [{ diffId: digest('1'), blob: LAYER.blob }],
  chainId: digest('1'),
  pulledAt: '2024-01-01T00:00:00.000Z',
};

const DEDUPED: LayerRecord = {
  ...LAYER,
  version: 2,
  usesTar: false,
  deduped: {
    data: { digest: digest('9'), size: 4096 },
    recipe: { digest: digest('a'), size: 100 },
    sources: [{ diffId: digest('5'), file: 'layer.tar', size: 10240 }],
    devices: [{ diffId: digest('1'), file: 'layer.data', digest: digest('9'), size: 4096 }],
  },
};
const REMNANT: RemnantRecord = {
  version: 1,
  digest: digest('1'),
  size: 10240,
  ranges: [
    [0, 4096],
    [8192, 10240],
  ],
  content: digest('2'),
};

const KINDS = [
  { record: LAYER, read: readLayerRecord },
  { record: CHAIN, read: readChainRecord },
  { record: IMAGE, read: readImageRecord },
  { record: { ...IMAGE, index: IMAGE.manifest }, read: readImageRecord },
  { record: DEDUPED, read: readLayerRecord },
  { record: REMNANT, read: readRemnantRecord },
] as const;

test('records come back as they were written', (t) => {
  const path = join(temporaryDirectory(t), 'record.json');
  for (const { record, read } of KINDS) {
    writeFileSync(path, recordText(record));
    assert.deepEqual(read(path), record);
  }
});

test('a missing record is told from a damaged one', (t) => {
  const path = join(temporaryDirectory(t), 'record.json');
  assert.throws(() => readLayerRecord(path), { code: 'store/missing' });
  writeFileSync(path, '');
  assert.throws(() => readLayerRecord(path), {
    code: 'store/corrupt',
    message: /record\.json: it is not JSON/,
  });
  writeFileSync(path, recordText(LAYER).replace('"version": 1', '"version": 3'));
  assert.throws(() => readLayerRecord(path), { code: 'store/corrupt', message: /version 3/ });
});

test('every field is needed and checked', (t) => {
  const path = join(temporaryDirectory(t), 'record.json');
  for (const { record, read } of KINDS) {
    for (const field of Object.keys(record)) {
      for (const wrong of [undefined, {}, -1, 'sha256:../../etc/passwd']) {
        if (typeof wrong === 'string' && (field === 'name' || field === 'platform' || field === 'pulledAt'))
          continue;
        writeFileSync(path, JSON.stringify({ ...record, [field]: wrong }));
        assert.throws(() => read(path), { code: 'store/corrupt' }, `${field}: ${String(wrong)}`);
      }
    }
  }
});

test('digests in records never lead out of their directory', (t) => {
  const path = join(temporaryDirectory(t), 'record.json');
  const layers = [{ diffId: `sha256:../${'1'.repeat(61)}`, blob: LAYER.blob }];
  writeFileSync(path, JSON.stringify({ ...IMAGE, layers }));
  assert.throws(() => readImageRecord(path), { code: 'store/corrupt' });
});

test('any bytes give a record or an error of ours', (t) => {
  const path = join(temporaryDirectory(t), 'record.json');
  const damaged = fc
    .tuple(fc.constantFrom(...KINDS), fc.nat(), fc.string({ maxLength: 3 }), fc.nat(40))
    .map(([kind, at, put, cut]) => {
      const text = recordText(kind.record);
      const from = at % text.length;
      return { read: kind.read, text: text.slice(0, from) + put + text.slice(from + cut) };
    });
  fc.assert(
    fc.property(damaged, ({ read, text }) => {
      writeFileSync(path, text);
      try {
        read(path);
      } catch (error) {
        assert.ok(error instanceof VeneerError && error.code === 'store/corrupt', String(error));
      }
    }),
    { numRuns: 500 },
  );
});
