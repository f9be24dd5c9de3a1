/** Tells by path what could not be made or set in a copy. */
import { displayByteString } from '../../bytes/byte-string.ts';
import type { Problem } from '../../rootfs/attributes.ts';
import { jsonName, type Output } from '../output.ts';

/** Told one by one; --json has all. */
const TOLD = 20;

export function tellProblems(out: Output, problems: readonly Problem[]): void {
  if (out.json) return;
  for (const { path, what, reason } of problems.slice(0, TOLD)) {
    const missing = what === 'file' ? 'is not made' : `${what} is not set`;
    out.note(`${displayByteString(path)}: ${missing}: ${reason}`);
  }
  if (problems.length > TOLD) out.note(`${problems.length - TOLD} more like these (--json lists all)`);
}

export const problemsJson = (problems: readonly Problem[]): object[] =>
  problems.map(({ path, what, reason }) => ({ ...jsonName('path', path), what, reason }));
