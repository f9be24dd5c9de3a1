/** Manifests, indexes and configs: what is read, and what is refused. */
import assert from 'node:assert/strict';
import { it, describe as suite } from 'node:test';
import fc from 'fast-check';
import { describe, makeImage, makeIndex } from '../../test/support/images.ts';
import { withCode } from '../../test/support/pull-source.ts';
import { VeneerError } from '../errors.ts';
import { parseImageConfig } from './config.ts';
import { chooseManifests, parseImageIndex } from './image-index.ts';
import { parseManifest } from './manifest.ts';
import {
  DOCKER_MANIFEST,
  describeLayerType,
  OCI_CONFIG,
  OCI_INDEX,
  OCI_LAYER,
  OCI_MANIFEST,
} from './media-type.ts';
import { formatPlatform, parsePlatform } from './platform.ts';

const image = makeImage({ contents: [Buffer.from('x')] });
const document = JSON.parse(image.manifest.bytes.toString()) as Record<string, unknown>;
const layer = (document.layers as object[])[0]!;
const bytesOf = (value: unknown): Buffer => Buffer.from(JSON.stringify(value));
const parse = (change: object, type = OCI_MANIFEST) =>
  parseManifest(bytesOf({ ...document, ...change }), type, 'it');

suite('parseManifest', () => {
  it('reads both dialects', () => {
    const oci = parseManifest(image.manifest.bytes, OCI_MANIFEST, 'it');
    assert.equal(oci.layers[0]!.compression, 'gzip');
    assert.equal(oci.layers[0]!.foreign, false);
    const docker = makeImage({ kind: 'docker', compression: 'none', contents: [Buffer.from('x')] });
    assert.equal(
      parseManifest(docker.manifest.bytes, DOCKER_MANIFEST, 'it').layers[0]!.compression,
      'unknown',
    );
  });

  it('takes what the spec lets be there or not', () => {
    assert.deepEqual(parse({ mediaType: undefined, layers: [], unknown: 1 }).layers, []);
    assert.deepEqual(parse({ annotations: null, subject: {} }).annotations, {});
    assert.deepEqual({ ...parse({ annotations: { a: 'b' } }).annotations }, { a: 'b' });
    const full = {
      ...layer,
      urls: ['https://x/'],
      annotations: { a: 'b' },
      data: 'AA==',
      artifactType: 'x/y',
    };
    assert.equal(parse({ layers: [full] }).layers.length, 1);
  });

  it('refuses broken ones', () => {
    const cases: [object, string][] = [
      [{ schemaVersion: 1 }, 'oci/invalid'],
      [{ schemaVersion: '2' }, 'oci/invalid'],
      [{ config: undefined }, 'oci/invalid'],
      [{ layers: null }, 'oci/invalid'],
      [{ layers: {} }, 'oci/invalid'],
      [{ layers: [null] }, 'oci/invalid'],
      [{ layers: [{ ...layer, size: -1 }] }, 'oci/invalid'],
      [{ layers: [{ ...layer, size: 1.5 }] }, 'oci/invalid'],
      [{ layers: [{ ...layer, size: 2 ** 53 }] }, 'oci/invalid'],
      [{ layers: [{ ...layer, size: '1' }] }, 'oci/invalid'],
      [{ layers: [{ ...layer, digest: 'sha256:../../x' }] }, 'oci/invalid'],
      [{ layers: [{ ...layer, mediaType: 'a b' }] }, 'oci/invalid'],
      [{ layers: [{ ...layer, mediaType: 'application/pdf' }] }, 'oci/unsupported'],
      [{ layers: [{ ...layer, mediaType: `${OCI_LAYER}+gzip+encrypted` }] }, 'oci/unsupported'],
      [
        { config: { ...describe(image.config), mediaType: 'application/vnd.oci.empty.v1+json' } },
        'oci/unsupported',
      ],
      [{ mediaType: OCI_INDEX }, 'oci/invalid'],
      [{ mediaType: DOCKER_MANIFEST }, 'oci/invalid'],
      [{ manifests: [] }, 'oci/invalid'],
      [{ fsLayers: [] }, 'oci/invalid'],
      [{ layers: Array(10_001).fill(layer) }, 'oci/invalid'],
    ];
    for (const [change, code] of cases)
      assert.throws(() => parse(change), withCode(code), JSON.stringify(change).slice(0, 200));
  });

  it('refuses what is no manifest by its type', () => {
    for (const type of [
      OCI_INDEX,
      OCI_CONFIG,
      '',
      'application/vnd.docker.distribution.manifest.v1+prettyjws',
    ]) {
      assert.throws(() => parseManifest(image.manifest.bytes, type, 'it'), withCode('oci/unsupported'), type);
    }
  });

  it('refuses what is no JSON, no UTF-8, or too long', () => {
    for (const bytes of [
      Buffer.from(''),
      Buffer.from('{'),
      Buffer.from([0x22, 0xff, 0x22]),
      bytesOf([]),
      bytesOf('x'),
    ]) {
      assert.throws(() => parseManifest(bytes, OCI_MANIFEST, 'it'), withCode('oci/invalid'));
    }
    const long = Buffer.concat([image.manifest.bytes, Buffer.alloc(4 << 20, ' ')]);
    assert.throws(() => parseManifest(long, OCI_MANIFEST, 'it'), withCode('oci/limit'));
    assert.throws(
      () => parseManifest(Buffer.from('['.repeat(1_000_000)), OCI_MANIFEST, 'it'),
      withCode('oci/invalid'),
    );
  });

  it('throws nothing but VeneerErrors', () => {
    const key = fc.constantFrom(
      'schemaVersion',
      'mediaType',
      'config',
      'layers',
      'annotations',
      '__proto__',
      'constructor',
    );
    fc.assert(
      fc.property(key, fc.jsonValue(), (name, value) => {
        const text = JSON.stringify(document).replace(
          /\}$/,
          `,${JSON.stringify(name)}:${JSON.stringify(value)}}`,
        );
        try {
          parseManifest(Buffer.from(text), OCI_MANIFEST, 'it');
        } catch (error) {
          assert.ok(error instanceof VeneerError, String(error));
        }
      }),
      { numRuns: 500 },
    );
  });
});

suite('describeLayerType', () => {
  it('knows the layers of both dialects', () => {
    const docker = 'application/vnd.docker.image.rootfs';
    assert.deepEqual(describeLayerType(OCI_LAYER), { compression: 'none', foreign: false });
    assert.deepEqual(describeLayerType(`${OCI_LAYER}+gzip`), { compression: 'gzip', foreign: false });
    assert.deepEqual(describeLayerType(`${OCI_LAYER}+zstd`), { compression: 'zstd', foreign: false });
    assert.deepEqual(describeLayerType(`${docker}.diff.tar.gzip`), { compression: 'gzip', foreign: false });
    assert.deepEqual(describeLayerType(`${docker}.foreign.diff.tar.gzip`), {
      compression: 'gzip',
      foreign: true,
    });
    assert.deepEqual(describeLayerType('application/vnd.oci.image.layer.nondistributable.v1.tar'), {
      compression: 'none',
      foreign: true,
    });
    for (const type of [
      '',
      `${OCI_LAYER}constructor`,
      `${OCI_LAYER}+`,
      `${OCI_LAYER}+gzip+zstd`,
      OCI_CONFIG,
      `x${OCI_LAYER}`,
    ]) {
      assert.equal(describeLayerType(type), null, type);
    }
  });
});

suite('image indexes', () => {
  const amd64 = { os: 'linux', architecture: 'amd64' };
  const index = (platforms: (object | undefined)[]) => {
    const bytes = makeIndex(platforms.map((platform) => (platform ? { image, platform } : { image }))).bytes;
    return parseImageIndex(bytes, OCI_INDEX, 'it').manifests;
  };
  const chosen = (platforms: (object | undefined)[], wanted: string): (string | undefined)[] =>
    chooseManifests(index(platforms), parsePlatform(wanted), 'it').map(
      ({ platform }) => platform && formatPlatform(platform),
    );

  it('give the best match first, then what has no label', () => {
    const arm = ['v5', 'v7', 'v6'].map((variant) => ({ os: 'linux', architecture: 'arm', variant }));
    assert.deepEqual(chosen([...arm, amd64], 'linux/arm/v7'), [
      'linux/arm/v7',
      'linux/arm/v6',
      'linux/arm/v5',
    ]);
    assert.deepEqual(chosen([...arm, amd64], 'linux/arm/v6'), ['linux/arm/v6', 'linux/arm/v5']);
    assert.deepEqual(chosen([undefined, { os: 'linux', architecture: '386' }, amd64], 'linux/amd64'), [
      ...['linux/amd64', 'linux/386', undefined],
    ]);
    assert.deepEqual(
      chosen(
        [
          { ...amd64, variant: 'v3' },
          { ...amd64, variant: 'v1' },
        ],
        'linux/amd64',
      ),
      ['linux/amd64'],
    );
  });

  it('name what there is when nothing fits', () => {
    const unknown = { os: 'unknown', architecture: 'unknown' };
    assert.throws(() => chosen([amd64, unknown], 'linux/s390x'), {
      code: 'oci/no-platform',
      hint: /^It has linux\/amd64:/,
    });
    assert.throws(() => chosen([unknown], 'linux/amd64'), withCode('oci/no-platform'));
    assert.throws(
      () => chosen([{ os: 'windows', architecture: 'amd64' }], 'linux/amd64'),
      withCode('oci/no-platform'),
    );
  });

  it('are refused when broken or ambiguous', () => {
    const { bytes } = makeIndex([{ image, platform: amd64 }]);
    const value = JSON.parse(bytes.toString()) as object;
    const changes = [
      { layers: [] },
      { config: {} },
      { mediaType: OCI_MANIFEST },
      { manifests: {} },
      { manifests: undefined },
      { schemaVersion: 1 },
    ];
    for (const change of changes) {
      assert.throws(
        () => parseImageIndex(bytesOf({ ...value, ...change }), OCI_INDEX, 'it'),
        withCode('oci/invalid'),
      );
    }
    assert.deepEqual(parseImageIndex(bytesOf({ ...value, manifests: null }), OCI_INDEX, 'it').manifests, []);
  });
});

suite('parseImageConfig', () => {
  const value = JSON.parse(image.config.bytes.toString()) as object;
  const config = (change: object) => parseImageConfig(bytesOf({ ...value, ...change }), 'it');

  it('reads what mounting needs', () => {
    assert.deepEqual(config({ created: '2025-01-01T00:00:00Z', history: null, config: null }), {
      platform: parsePlatform('linux/amd64'),
      created: '2025-01-01T00:00:00Z',
      diffIds: image.diffIds,
    });
    assert.deepEqual(config({ rootfs: { type: 'layers', diff_ids: null } }).diffIds, []);
    assert.equal(formatPlatform(config({ architecture: 'arm', variant: 'v6' }).platform), 'linux/arm/v6');
  });

  it('refuses the rest', () => {
    const bad = [
      { rootfs: undefined },
      { rootfs: { type: 'x', diff_ids: [] } },
      { rootfs: { type: 'layers', diff_ids: ['x'] } },
      { os: 1 },
    ];
    for (const change of bad) assert.throws(() => config(change), withCode('oci/invalid'));
    assert.throws(() => parseImageConfig(Buffer.alloc((8 << 20) + 1), 'it'), withCode('oci/limit'));
  });
});
