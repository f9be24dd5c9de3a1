/** The registry client: {@link openRegistry} is a source of images like those of `oci/`. */
export type { Credentials } from './credentials.ts';
export { openRegistry, type RegistryOptions } from './source.ts';
