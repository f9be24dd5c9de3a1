/** From a request to the ordered list of steps. Pure: touches nothing, so it can be printed and tested. */
import { resolve } from 'node:path';
import { VeneerError } from '../errors.ts';
import { parseOptions } from './options.ts';
import type { Backing, Capabilities, MountPlan, MountRequest, MountStep } from './types.ts';

/** `OVL_MAX_STACK` of fs/overlayfs: the empty bottom layer of {@link needsEmpty} counts too. */
export const MAX_OVERLAY_LOWERS = 500;

/** Plans a mount. Throws `mount/bad-option`, `mount/too-many`, `mount/unsupported`, `mount/refused`. */
export function planMount(request: MountRequest, capabilities: Capabilities): MountPlan {
  const { images, mode } = request;
  const absolute: MountRequest = {
    ...request,
    target: resolve(request.target),
    runDir: resolve(request.runDir),
  };
  if (images.length === 0 || (mode === 'merged' && images.length !== 1)) {
    throw new VeneerError(
      'mount/refused',
      `Cannot mount at ${request.target}: ${mode} mode with ${images.length} images`,
      { hint: 'Merged mode takes one image, layers mode at least one.' },
    );
  }
  if (images.length > MAX_OVERLAY_LOWERS) {
    throw new VeneerError(
      'mount/too-many',
      `Cannot mount ${images.length} layers at ${request.target}: overlayfs takes at most ${MAX_OVERLAY_LOWERS}`,
      { hint: 'Mount the merged image instead: leave out --layers.' },
    );
  }
  if (request.backing === 'file' && !capabilities.fileBacked) {
    throw new VeneerError(
      'mount/unsupported',
      `Cannot mount regular files: kernel ${capabilities.kernel} needs loop devices, files came with 6.12`,
      { hint: 'Leave out the choice of backing.' },
    );
  }
  // The kernel counts a file-backed mount as one more level, and allows two (FILESYSTEM_MAX_STACK_DEPTH).
  const preferred = capabilities.fileBacked && !joinsLowers(request) ? 'file' : 'loop';
  const backing: Backing = request.backing === 'auto' ? preferred : request.backing;
  return {
    request: absolute,
    flags: parseOptions(request.options, request.rw !== undefined),
    steps: listSteps(absolute, backing, capabilities),
    fallback:
      request.backing === 'auto' && backing === 'file' ? listSteps(absolute, 'loop', capabilities) : null,
  };
}

function listSteps(request: MountRequest, backing: Backing, capabilities: Capabilities): MountStep[] {
  const { images, rw, target } = request;
  const overlay = request.mode === 'layers' || rw !== undefined;
  const anchored = overlay && !capabilities.detachedLowers;
  const steps: MountStep[] = [{ do: 'check-privilege' }, { do: 'check-target', target }];
  for (let image = 0; image < images.length; image++) steps.push({ do: 'check-image', image });
  steps.push({ do: 'make-entry' });
  if (anchored) steps.push({ do: 'make-anchor' });
  if (needsEmpty(request)) steps.push({ do: 'mount-empty', anchored });
  for (let image = 0; image < images.length; image++)
    steps.push({ do: 'mount-image', image, backing, anchored });
  if (joinsLowers(request)) steps.push({ do: 'join-lowers', anchored });
  if (rw !== undefined)
    steps.push({ do: 'prepare-upper', upper: rw.upper === undefined ? null : resolve(rw.upper) });
  if (overlay) steps.push({ do: 'mount-overlay', rw: rw !== undefined, anchored });
  steps.push({ do: 'write-record' }, { do: 'attach', target });
  if (anchored) steps.push({ do: 'drop-anchor' });
  return steps;
}

/** overlayfs without an upper directory wants two lowers; a lone layer gets an empty one below it, which also hides its whiteouts. */
function needsEmpty(request: MountRequest): boolean {
  return request.mode === 'layers' && request.rw === undefined && request.images.length === 1;
}

/**
 * Metadata-only files are put together in an overlay of their own when something is written above: with `metacopy`
 * there too, the upper directory would get such files itself, and be of no use with anything but these lowers.
 */
function joinsLowers({ metacopy = false, rw, images }: MountRequest): boolean {
  return metacopy && rw !== undefined && images.length > 1;
}
