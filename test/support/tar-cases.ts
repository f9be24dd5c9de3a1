/** The conformance table: every tar that trees, images and mounts are tried on, by theme. */
import { attributeCases } from './tar-cases/attributes.ts';
import { duplicateCases } from './tar-cases/duplicates.ts';
import { endCases } from './tar-cases/ends.ts';
import { formatCases } from './tar-cases/formats.ts';
import { layerCases } from './tar-cases/layers.ts';
import { linkCases } from './tar-cases/links.ts';
import { nameCases } from './tar-cases/names.ts';
import { sparseCases } from './tar-cases/sparse.ts';
import type { TarCase } from './tar-cases/tar-case.ts';

export { layersOf, type TarCase } from './tar-cases/tar-case.ts';

export const tarCases: readonly TarCase[] = [
  ...formatCases,
  ...sparseCases,
  ...linkCases,
  ...nameCases,
  ...attributeCases,
  ...duplicateCases,
  ...layerCases,
  ...endCases,
];
