/** What the numbers depend on. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { availableParallelism, cpus, release, totalmem } from 'node:os';
import { join } from 'node:path';
import { TOOLS } from './inputs.ts';
import { MKFS, UMOCI } from './peers.ts';

/** Label to text, in the order of the report. */
export type Machine = Readonly<Record<string, string>>;

function firstLine(program: string, ...words: readonly string[]): string {
  return execFileSync(program, words, { encoding: 'utf8' }).split('\n')[0]!.trim();
}

function fileSystemOf(directory: string): string {
  return firstLine('stat', '-f', '-c', '%T', directory);
}

export function describeMachine(workDirectory: string): Machine {
  const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
    version: string;
  };
  return {
    processor: `${cpus()[0]!.model}, ${availableParallelism()} cores`,
    memory: `${(totalmem() / 2 ** 30).toFixed(0)} GiB`,
    kernel: release(),
    'file system': fileSystemOf(workDirectory),
    veneer: version,
    Node: process.version,
    'erofs-utils': firstLine(MKFS, '-V'),
    containerd: firstLine(join(TOOLS, 'containerd'), '--version'),
    umoci: firstLine(UMOCI, '--version'),
    'GNU tar': firstLine('tar', '--version'),
  };
}
