/** Sparse files in all forms. */
import { archive, file, type Run, type SparseForm, sparseFile } from '../tar-builder.ts';
import { patterned, type TarCase } from './tar-case.ts';

const FORMS: readonly SparseForm[] = ['old-gnu', '0.0', '0.1', '1.0'];

interface Shape {
  readonly name: string;
  readonly size: number;
  readonly runs: readonly Run[];
  readonly notes: string;
  readonly gnuTar?: TarCase['gnuTar'];
  readonly huge?: true;
}

const PADS_RUNS = 'differs: it wants every run of data to begin on a block, as its own writer has it';

const SHAPES: readonly Shape[] = [
  {
    name: 'aligned',
    size: 65_536,
    runs: [
      { offset: 4096, data: patterned(4096, 2) },
      { offset: 32_768, data: patterned(8192, 3) },
    ],
    notes: 'runs on 4096-byte boundaries, hole at both ends',
  },
  {
    name: 'unaligned',
    size: 10_007,
    runs: [
      { offset: 1, data: patterned(3, 4) },
      { offset: 513, data: patterned(700, 5) },
      { offset: 5001, data: patterned(511, 6) },
      { offset: 10_000, data: patterned(7, 7) },
    ],
    notes: 'runs that begin and end anywhere; their data stands gapless, as for Go and libarchive',
    gnuTar: PADS_RUNS,
  },
  { name: 'all-hole', size: 1_048_576, runs: [], notes: 'no data at all' },
  {
    name: 'all-data',
    size: 5000,
    runs: [{ offset: 0, data: patterned(5000, 8) }],
    notes: 'one run, no hole',
  },
  { name: 'empty', size: 0, runs: [], notes: 'a sparse file of no bytes' },
  {
    name: 'adjacent',
    size: 9000,
    runs: [
      { offset: 1000, data: patterned(1024, 9) },
      { offset: 2024, data: patterned(3000, 10) },
    ],
    notes: 'two runs without a hole in between',
  },
  {
    name: 'many-runs',
    size: 100 * 8192,
    runs: Array.from({ length: 100 }, (_, i) => ({
      offset: i * 8192 + 512 * (i % 7),
      data: patterned(512 * (1 + (i % 3)), i + 20),
    })),
    notes: 'more runs than fit the header: extension blocks, or a map of many lines',
  },
  {
    name: 'many-unaligned-runs',
    size: 100 * 8192,
    runs: Array.from({ length: 100 }, (_, i) => ({
      offset: i * 8192 + 11 * i,
      data: patterned(100 + i, i + 20),
    })),
    notes: 'the same with runs of any length',
    gnuTar: PADS_RUNS,
  },
  {
    name: 'unaligned-offsets',
    size: 30_001,
    runs: [
      { offset: 5, data: patterned(512, 11) },
      { offset: 1000, data: patterned(1536, 12) },
      { offset: 29_000, data: patterned(1001, 13) },
    ],
    notes: 'whole blocks of data at places that are no multiple of a block; the last run ends the file',
  },
  {
    name: 'huge',
    size: 2 ** 40 + 5,
    runs: [
      { offset: 0, data: patterned(512) },
      { offset: 2 ** 40, data: 'tail!' },
    ],
    notes: 'a terabyte, 517 bytes of it data',
    huge: true,
  },
];

export const sparseCases: readonly TarCase[] = [
  ...SHAPES.flatMap((shape) =>
    FORMS.map(
      (form): TarCase => ({
        name: `sparse/${shape.name}-${form}`,
        layers: [
          archive(
            file('before', 'b'),
            sparseFile('dir/sparse', shape.size, shape.runs, form, { mode: 0o640, uid: 3 }),
            file('after', 'a'),
          ),
        ],
        notes: shape.notes,
        gnuTar: shape.gnuTar ?? 'same',
        ...(shape.huge ? { huge: true } : {}),
      }),
    ),
  ),
  {
    name: 'sparse/no-end-mark',
    layers: [
      archive(
        ...FORMS.map((form) =>
          sparseFile(`f-${form}`, 9000, [{ offset: 100, data: patterned(200) }], form, { endMark: false }),
        ),
      ),
    ],
    notes: 'maps without the empty run that GNU tar ends them with',
    gnuTar: 'differs: without that run it leaves the file as long as its last data',
  },
  {
    name: 'sparse/long-name',
    layers: [
      archive(
        ...FORMS.map((form) =>
          sparseFile(
            `${'d'.repeat(90)}/${'s'.repeat(90)}-${form}`,
            5000,
            [{ offset: 4000, data: 'x' }],
            form,
          ),
        ),
      ),
    ],
    notes: 'the real name is in GNU.sparse.name, path or an L header',
    gnuTar: 'same',
  },
  {
    name: 'sparse/map-over-blocks',
    layers: [
      archive(
        sparseFile(
          'f',
          2 ** 33,
          Array.from({ length: 64 }, (_, i) => ({
            offset: 2 ** 32 + i * 1_000_003,
            data: patterned(512, i),
          })),
          '1.0',
        ),
        file('after', 'x'),
      ),
    ],
    notes: 'a 1.0 map of several blocks whose numbers run across block ends',
    gnuTar: 'same',
    huge: true,
  },
  {
    name: 'sparse/hard-linked',
    layers: [
      archive(sparseFile('f', 20_000, [{ offset: 10_000, data: patterned(500) }], '1.0'), file('g', 'x')),
      archive(sparseFile('f', 30_000, [{ offset: 3, data: patterned(5) }], 'old-gnu')),
    ],
    notes: 'a sparse file over a sparse file of the lower layer',
    gnuTar: 'same',
  },
];
