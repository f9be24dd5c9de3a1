/** What goes wrong on the way to a registry, in our words and codes. */
import { VeneerError } from '../errors.ts';
import { UnavailableError } from './retry.ts';

/** For messages: no query (it may hold a signature) and no credentials, of bounded length. */
export function showUrl(url: URL): string {
  const text = `${url.protocol}//${url.host}${url.pathname}`;
  return text.length > 300 ? `${text.slice(0, 300)}…` : text;
}

/** TLS failures that are about trust or protocol, not about the line. */
const TLS_CODE =
  /^(?:CERT_|CRL_|UNABLE_TO_|SELF_SIGNED|DEPTH_ZERO|INVALID_CA|INVALID_PURPOSE|PATH_LENGTH|HOSTNAME_MISMATCH|ERR_TLS|ERR_SSL|EPROTO)/;

/** An error before the response headers, in our words. */
export function connectError(error: unknown, url: URL): unknown {
  if (error instanceof VeneerError) return error;
  const { code = '', message, name } = error as NodeJS.ErrnoException;
  if (name === 'AbortError')
    return new VeneerError('io/cancelled', `Cannot fetch ${showUrl(url)}: it was cancelled`);
  const what = `Cannot reach ${url.protocol}//${url.host}`;
  if (code === 'ENOTFOUND') {
    return new VeneerError('registry/not-found', `${what}: there is no host ${url.hostname}`, {
      cause: error,
    });
  }
  if (TLS_CODE.test(code)) {
    return new VeneerError('registry/tls', `${what}: ${tlsReason(code, message)}`, {
      cause: error,
      hint: tlsHint(code),
    });
  }
  if (code.startsWith('HPE_')) {
    return new VeneerError('registry/protocol', `${what}: the answer is not HTTP (${code})`, {
      cause: error,
    });
  }
  return new UnavailableError(`${what}: ${reasonOf(code, message)}`, {
    cause: error,
    refused: code === 'ECONNREFUSED',
  });
}

/** An error while the body was read: the line failed, whatever the code. */
export function bodyError(error: unknown, url: URL, at: number): unknown {
  if (error instanceof VeneerError) return error;
  const { code = '', message, name } = error as NodeJS.ErrnoException;
  if (name === 'AbortError')
    return new VeneerError('io/cancelled', `Cannot fetch ${showUrl(url)}: it was cancelled`);
  const reason = reasonOf(code, message);
  return new UnavailableError(`Cannot fetch ${showUrl(url)}: ${reason} at byte ${at}`, { cause: error });
}

export function cancelled(url: URL): VeneerError {
  return new VeneerError('io/cancelled', `Cannot fetch ${showUrl(url)}: the source was closed`);
}

function reasonOf(code: string, message: string): string {
  switch (code) {
    case 'ECONNREFUSED':
      return 'connection refused';
    case 'ECONNRESET':
      return 'the connection was cut';
    case 'ETIMEDOUT':
      return 'the connection timed out';
    case 'EAI_AGAIN':
      return 'the name server does not answer';
    default:
      return code === '' ? message.slice(0, 200) : code;
  }
}

function tlsReason(code: string, message: string): string {
  if (code === 'EPROTO' || code.startsWith('ERR_SSL')) return 'no TLS there that we understand';
  return `its certificate is not trusted (${code}: ${message.slice(0, 200)})`;
}

function tlsHint(code: string): string {
  if (code === 'EPROTO' || code.startsWith('ERR_SSL'))
    return 'If the registry has plain HTTP only, allow it with --insecure.';
  return 'Name its authority in SSL_CERT_FILE, or put it into /etc/docker/certs.d/HOST as ca.crt.';
}
