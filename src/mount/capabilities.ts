/** What this kernel can do, by its version: cheap, for planning. `diagnose` tries things for real. */
import { release } from 'node:os';
import type { Capabilities } from './types.ts';

/** True when kernel release `text` (`6.12.3-arch1`) is at least `major.minor`. */
export function isKernelAtLeast(text: string, major: number, minor: number): boolean {
  const match = /^(\d+)\.(\d+)/.exec(text);
  if (match === null) return false;
  const [, a, b] = match.map(Number) as [number, number, number];
  return a > major || (a === major && b >= minor);
}

/** Capabilities by version. A kernel that lacks file-backed mounts all the same is noticed while mounting. */
export function probeCapabilities(kernel = release()): Capabilities {
  return {
    kernel,
    fileBacked: isKernelAtLeast(kernel, 6, 12),
    detachedLowers: isKernelAtLeast(kernel, 6, 15),
  };
}
