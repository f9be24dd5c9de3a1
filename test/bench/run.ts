/**
 * npm run bench [-- NAME… [--rounds N] [--images a,b] [--source] [--out FILE]]
 *
 * Measures veneer beside its peers and writes docs/benchmarks.md. NAME is one of the
 * contests below; without any, all run. Results are kept in .cache/bench/results.json, so
 * that a run of some contests leaves the others' numbers in the report, as long as machine
 * and versions are the same. Needs root, and the corpus and the tools, which it makes.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { type Contest, type ContestResult, runContest } from './contest.ts';
import { atRestContests } from './contests/at-rest.ts';
import { checkoutContests } from './contests/checkout.ts';
import { containerdContests } from './contests/containerd.ts';
import { deltaContests } from './contests/delta.ts';
import { diskContests, verityContests } from './contests/disk.ts';
import { memoryContests } from './contests/memory.ts';
import { pullContests } from './contests/pull.ts';
import { readContests } from './contests/read.ts';
import { repackContests } from './contests/repack.ts';
import { mountContests, startContests } from './contests/start.ts';
import { udfContests } from './contests/udf.ts';
import { unpackContests } from './contests/unpack.ts';
import { convertContests, indexContests, mergeContests } from './contests/writers.ts';
import { CORPUS, corpusImages, PROJECT, TOOLS } from './inputs.ts';
import { BenchLab } from './lab.ts';
import { describeMachine } from './machine.ts';
import { type Report, renderReport } from './report.ts';

const CONTESTS: Readonly<Record<string, (lab: BenchLab) => Contest[]>> = {
  pull: pullContests,
  index: indexContests,
  udf: udfContests,
  merge: mergeContests,
  convert: convertContests,
  start: startContests,
  mount: mountContests,
  disk: diskContests,
  verity: verityContests,
  read: readContests,
  memory: memoryContests,
  delta: deltaContests,
  rest: atRestContests,
  checkout: checkoutContests,
  containerd: containerdContests,
  unpack: unpackContests,
  repack: repackContests,
};

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    rounds: { type: 'string', default: '5' },
    images: { type: 'string', default: 'node-app,wordpressish' },
    /** Runs src/ as it is instead of building dist/ first: for a quick look, not for numbers to keep. */
    source: { type: 'boolean', default: false },
    /** Where to write; the default is the project's own page. */
    out: { type: 'string', default: join(PROJECT, 'docs/benchmarks.md') },
  },
});
const names = positionals.length > 0 ? positionals : Object.keys(CONTESTS);
for (const name of names) {
  if (CONTESTS[name] === undefined) {
    process.stderr.write(`bench: there is no ${name}; there are ${Object.keys(CONTESTS).join(' ')}\n`);
    process.exit(2);
  }
}
if (process.getuid?.() !== 0) {
  process.stderr.write('bench: needs root, for mounting and for the peers\n');
  process.exit(1);
}

const log = (line: string): void => void process.stderr.write(`${line}\n`);
const cache = join(PROJECT, '.cache/bench');
const workDirectory = join(cache, 'work');
const resultsFile = join(cache, 'results.json');
rmSync(workDirectory, { recursive: true, force: true });
mkdirSync(workDirectory, { recursive: true });
execFileSync(join(PROJECT, 'scripts/tools.sh'), ['erofs', 'umoci', 'containerd-2'], { stdio: 'inherit' });
if (values.source) process.env.VENEER_FROM_SOURCE = '1';
else {
  execFileSync(join(PROJECT, 'scripts/run.sh'), ['build'], { stdio: 'inherit' });
  // What daemons of a lab go by.
  process.env.VENEER_BUILT = '1';
}
const lab = new BenchLab(workDirectory, corpusImages(values.images.split(',')));
const machine = describeMachine(workDirectory);

const show = (argv: readonly string[]): string =>
  argv
    .map((word) => (/[\s*]/.test(word) ? `'${word}'` : word))
    .join(' ')
    .replaceAll(workDirectory, 'WORK')
    .replaceAll(TOOLS, 'TOOLS')
    .replaceAll(CORPUS, 'CORPUS')
    .replaceAll(process.execPath, 'node')
    .replaceAll(PROJECT, '')
    .replaceAll(/sha256\/([0-9a-f]{12})[0-9a-f]{52}/g, 'sha256/$1…');

function earlierResults(): ContestResult[] {
  if (!existsSync(resultsFile)) return [];
  const report = JSON.parse(readFileSync(resultsFile, 'utf8')) as Report;
  return JSON.stringify(report.machine) === JSON.stringify(machine) ? [...report.results] : [];
}

const id = (result: { readonly name: string; readonly title: string }): string =>
  `${result.name} ${result.title}`;
const results = new Map(earlierResults().map((result) => [id(result), result]));

function save(): void {
  const order = Object.keys(CONTESTS);
  const sorted = [...results.values()].sort((a, b) => order.indexOf(a.name) - order.indexOf(b.name));
  writeFileSync(resultsFile, JSON.stringify({ machine, results: sorted }, null, 1));
  writeFileSync(values.out, renderReport({ machine, results: sorted }));
}

try {
  for (const name of names) {
    const contests = CONTESTS[name]!(lab);
    // What a contest was once called is not measured any more.
    const now = new Set(contests.map(id));
    for (const [key, result] of results) if (result.name === name && !now.has(key)) results.delete(key);
    try {
      for (const contest of contests) {
        const result = await runContest(contest, { rounds: Number(values.rounds), workDirectory, show, log });
        results.set(id(result), result);
        save();
        for (const { text, limit, seen, met } of result.targets) {
          log(`  ${met ? 'met   ' : 'MISSED'} ${result.title}: ${text}: ${seen} (limit ${limit})`);
        }
      }
    } catch (error) {
      // What one contest mounted, a later one of the group would have released.
      for (const contest of contests) await Promise.resolve(contest.close?.()).catch(() => {});
      throw error;
    }
  }
} finally {
  await lab.close();
  rmSync(workDirectory, { recursive: true, force: true });
}
log(`written: ${values.out}`);
