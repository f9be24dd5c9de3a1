/** The registry client: {@link openRegistry} is a source of images like those of `oci/`. */
export type { Credentials } from './credentials.ts';
export type { RegistryOptions } from './options.ts';
export { type PushedReferrer, pushReferrer } from './push.ts';
export { openRegistry } from './source.ts';
