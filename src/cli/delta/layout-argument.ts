/** `oci:DIR[:TAG]`, as a place to write to or to read a delta from. */
import { VeneerError } from '../../errors.ts';
import { parseImageSource } from '../../oci/reference.ts';

export interface LayoutArgument {
  readonly dir: string;
  readonly tag: string | undefined;
}

export function parseLayoutArgument(text: string, what: string): LayoutArgument {
  const named = text.startsWith('oci:') ? parseImageSource(text) : null;
  if (named?.kind === 'layout' && named.digest === undefined) return { dir: named.dir, tag: named.tag };
  throw new VeneerError('cli/usage', `Cannot use ${text} as ${what}: not of the form oci:DIR[:TAG]`);
}
