/** Can this user mount by erofsfuse? Tried with a tiny image. */
import { mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { VeneerError } from '../errors.ts';
import { detachFuse, findProgram, PROGRAM, startFuse } from './fuse.ts';
import { type Attempt, attempt, NAME, writeTinyImage } from './probe.ts';

/** `path` is a PATH. */
export function tryFuse(scratch: string | null, path: string): Attempt {
  return attempt(() => {
    const program = findProgram(PROGRAM, path);
    if (program === null) throw new VeneerError('mount/unsupported', `there is no ${PROGRAM}`);
    const image = { primary: writeTinyImage(scratch, 512), devices: [] };
    const target = join(scratch!, 'fuse');
    mkdirSync(target);
    startFuse(program, { image, label: 'the probe' }, target, ['ro']);
    try {
      const names = readdirSync(target).join();
      if (names !== NAME)
        throw new VeneerError('io/failed', `Cannot read the mounted image: it holds ${names}`);
    } finally {
      detachFuse(target, { lazy: false });
    }
  });
}
