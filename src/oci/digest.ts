/** Content digests: `algorithm:hex`, the two algorithms the OCI image spec registers (descriptor.md, "Registered algorithms"). */
import { createHash } from 'node:crypto';
import { VeneerError } from '../errors.ts';

export type DigestAlgorithm = 'sha256' | 'sha512';

export interface Digest {
  readonly algorithm: DigestAlgorithm;
  /** Lower case, 64 or 128 chars. */
  readonly hex: string;
}

const DIGEST = /^(?:sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128})$/;

/** Whether `text` is a digest that {@link parseDigest} takes. */
export function isDigest(text: string): boolean {
  return text.length <= 135 && DIGEST.test(text);
}

/** Splits `sha256:…` or `sha512:…`; anything else, upper case included, is `oci/digest`. */
export function parseDigest(text: string): Digest {
  if (!isDigest(text)) {
    const shown = JSON.stringify(text.slice(0, 160));
    throw new VeneerError(
      'oci/digest',
      `Cannot use the digest ${shown}: not sha256:<64 hex> or sha512:<128 hex>`,
    );
  }
  const colon = text.indexOf(':');
  return { algorithm: text.slice(0, colon) as DigestAlgorithm, hex: text.slice(colon + 1) };
}

/** Digest of bytes in memory, `algorithm:hex`. */
export function digestOf(bytes: Uint8Array, algorithm: DigestAlgorithm = 'sha256'): string {
  return `${algorithm}:${createHash(algorithm).update(bytes).digest('hex')}`;
}

/** Throws `oci/digest-mismatch` unless `bytes` have `digest`; `what` names them in the message. */
export function checkDigest(bytes: Uint8Array, digest: string, what: string): void {
  const found = digestOf(bytes, parseDigest(digest).algorithm);
  if (found !== digest) {
    throw new VeneerError(
      'oci/digest-mismatch',
      `Cannot use ${what}: its digest is ${found}, expected ${digest}`,
    );
  }
}

/**
 * ChainIDs of every prefix of a layer list, bottom first (OCI image spec, config.md, "Layer ChainID"):
 * ChainID(L0) = DiffID(L0); ChainID(L0|…|Ln) = SHA256(ChainID(L0|…|Ln-1) + " " + DiffID(Ln)).
 */
export function chainIds(diffIds: readonly string[]): string[] {
  const chains: string[] = [];
  let chain = '';
  for (const diffId of diffIds) {
    parseDigest(diffId);
    chain = chain === '' ? diffId : digestOf(Buffer.from(`${chain} ${diffId}`, 'latin1'));
    chains.push(chain);
  }
  return chains;
}

/** ChainID of a whole layer list, bottom first. An image without layers has none: `oci/invalid`. */
export function chainId(diffIds: readonly string[]): string {
  const chain = chainIds(diffIds).at(-1);
  if (chain === undefined)
    throw new VeneerError('oci/invalid', 'Cannot make a ChainID: the image has no layers');
  return chain;
}
