/** Changes an OCI layout, which is made if it is not there, and gone again if the work fails. */
import { existsSync, rmSync } from 'node:fs';
import { changeLayout, createLayout, type LayoutChange } from '../../bundle/change-layout.ts';

export async function withLayout<T>(
  dir: string,
  signal: AbortSignal | undefined,
  work: (layout: LayoutChange) => Promise<T>,
): Promise<T> {
  const ours = !existsSync(dir);
  if (ours) createLayout(dir);
  try {
    return await changeLayout(dir, work, signal);
  } catch (error) {
    if (ours) rmSync(dir, { recursive: true, force: true });
    throw error;
  }
}
