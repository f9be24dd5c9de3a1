/** What `gc --compact` kept of layers that are gone, for lists of what is in the store. */
import { formatBytes, formatCount } from '../progress/units.ts';
import type { listRemnants } from '../store/remnants.ts';

/** Null when there is nothing of the kind. */
export function remnantNote(remnants: ReturnType<typeof listRemnants>): string | null {
  if (remnants.length === 0) return null;
  const bytes = remnants.reduce((sum, { storedBytes }) => sum + storedBytes, 0);
  return `and ${formatBytes(bytes)} of ${formatCount(remnants.length, 'layer')} that gc --compact took apart`;
}
