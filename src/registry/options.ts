/** How a registry is reached: what callers may say, and what holds otherwise. */
import { formatReference, type Reference } from '../oci/reference.ts';
import type { OnProgress } from '../progress/events.ts';
import { RegistryClient, type Timeouts } from './client.ts';
import type { Credentials } from './credentials.ts';
import { DEFAULT_RETRY, type RetryPolicy } from './retry.ts';

export interface RegistryOptions {
  /** Allow plain HTTP and unknown certificates. Loopback registries may have plain HTTP without it. */
  readonly insecure?: boolean;
  /** PEM text of further authorities to trust. */
  readonly ca?: string | Buffer;
  /** Folders like docker's `/etc/docker/certs.d`; these instead of the usual ones. */
  readonly certsDirs?: readonly string[];
  /** Use these, or null for none, instead of what docker and podman have stored. */
  readonly credentials?: Credentials | null;
  /** Environment to take DOCKER_CONFIG, SSL_CERT_FILE, HTTPS_PROXY … from; `process.env` by default. */
  readonly env?: NodeJS.ProcessEnv;
  readonly timeouts?: Partial<Timeouts>;
  readonly retry?: Partial<RetryPolicy>;
  /** Gets a `note` before each retry, with the source's name as id. */
  readonly onProgress?: OnProgress;
}

const TIMEOUTS: Timeouts = {
  requestTimeout: 30_000,
  idleTimeout: 60_000,
  documentTimeout: 120_000,
  helperTimeout: 30_000,
};

/** A client for the repository of `reference`; `write`: with the right to push. */
export function openClient(
  reference: Reference,
  options: RegistryOptions,
  { write }: { readonly write: boolean },
): RegistryClient {
  return new RegistryClient({
    reference,
    write,
    insecure: options.insecure ?? false,
    ca: options.ca,
    certsDirs: options.certsDirs,
    credentials: options.credentials,
    env: options.env ?? process.env,
    timeouts: { ...TIMEOUTS, ...options.timeouts },
    retry: { ...DEFAULT_RETRY, ...options.retry },
    onRetry: (error, milliseconds) => {
      const message = `${error.message}; next try in ${(milliseconds / 1000).toFixed(1)} s`;
      options.onProgress?.({ type: 'note', id: formatReference(reference), message });
    },
  });
}
