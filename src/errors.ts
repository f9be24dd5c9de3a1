/**
 * The one error class of veneer, and the table of its codes.
 *
 * A message reads "Cannot X: reason" and names the path and, where bytes are
 * concerned, the offset. `hint` says what the user can do about it.
 */

/** gRPC status names (google.rpc.Code) that the containerd room will answer with. */
export type GrpcStatus =
  | 'INVALID_ARGUMENT'
  | 'NOT_FOUND'
  | 'ALREADY_EXISTS'
  | 'FAILED_PRECONDITION'
  | 'PERMISSION_DENIED'
  | 'UNAUTHENTICATED'
  | 'RESOURCE_EXHAUSTED'
  | 'UNAVAILABLE'
  | 'UNIMPLEMENTED'
  | 'DATA_LOSS'
  | 'CANCELLED'
  | 'INTERNAL';

interface CodeMeaning {
  /** Process exit code: 1 failed, 2 usage. */
  readonly exit: 1 | 2;
  readonly grpc: GrpcStatus;
}

const failed = (grpc: GrpcStatus): CodeMeaning => ({ exit: 1, grpc });

/** Every stable code, one line each; `room/what`. */
export const ERROR_CODES = {
  'checkout/busy': failed('UNAVAILABLE'),
  'checkout/exists': failed('ALREADY_EXISTS'),
  'checkout/missing': failed('NOT_FOUND'),
  'checkout/modified': failed('FAILED_PRECONDITION'),
  'checkout/no-link': failed('FAILED_PRECONDITION'),
  'checkout/unfinished': failed('FAILED_PRECONDITION'),
  'cli/usage': { exit: 2, grpc: 'INVALID_ARGUMENT' },
  'cli/exists': failed('ALREADY_EXISTS'),
  'cli/not-a-file': failed('FAILED_PRECONDITION'),
  'cli/no-folder': failed('NOT_FOUND'),
  'cli/no-device': failed('NOT_FOUND'),
  'cli/wrong-device': failed('DATA_LOSS'),
  'cli/compressed': failed('INVALID_ARGUMENT'),
  'containerd/not-found': failed('NOT_FOUND'),
  'containerd/exists': failed('ALREADY_EXISTS'),
  'containerd/unavailable': failed('UNAVAILABLE'),
  'containerd/unsupported': failed('UNIMPLEMENTED'),
  'containerd/failed': failed('INTERNAL'),
  'io/failed': failed('INTERNAL'),
  'io/no-space': failed('RESOURCE_EXHAUSTED'),
  'io/cancelled': failed('CANCELLED'),
  'compress/corrupt': failed('DATA_LOSS'),
  'compress/unsupported': failed('UNIMPLEMENTED'),
  'tar/corrupt': failed('DATA_LOSS'),
  'tar/truncated': failed('DATA_LOSS'),
  'tar/limit': failed('RESOURCE_EXHAUSTED'),
  'tree/invalid': failed('DATA_LOSS'),
  'tree/limit': failed('RESOURCE_EXHAUSTED'),
  'tree/not-found': failed('NOT_FOUND'),
  'erofs/corrupt': failed('DATA_LOSS'),
  'erofs/unsupported': failed('UNIMPLEMENTED'),
  'erofs/limit': failed('RESOURCE_EXHAUSTED'),
  'udf/corrupt': failed('DATA_LOSS'),
  'udf/unsupported': failed('UNIMPLEMENTED'),
  'udf/limit': failed('RESOURCE_EXHAUSTED'),
  'udf/no-trailer': failed('NOT_FOUND'),
  'udf/foreign-trailer': failed('FAILED_PRECONDITION'),
  'udf/read-only': failed('FAILED_PRECONDITION'),
  'udf/busy': failed('FAILED_PRECONDITION'),
  'sys/failed': failed('INTERNAL'),
  'sys/no-proc': failed('FAILED_PRECONDITION'),
  'sys/EPERM': failed('PERMISSION_DENIED'),
  'sys/EACCES': failed('PERMISSION_DENIED'),
  'sys/EROFS': failed('FAILED_PRECONDITION'),
  'sys/ENOENT': failed('NOT_FOUND'),
  'sys/ENOTDIR': failed('FAILED_PRECONDITION'),
  'sys/ENODEV': failed('UNIMPLEMENTED'),
  'sys/ENODATA': failed('NOT_FOUND'),
  'sys/ENOSYS': failed('UNIMPLEMENTED'),
  'sys/ENOTTY': failed('UNIMPLEMENTED'),
  'sys/ENOTBLK': failed('UNIMPLEMENTED'),
  'sys/ESTALE': failed('FAILED_PRECONDITION'),
  'sys/ENOTSUP': failed('UNIMPLEMENTED'),
  'sys/EXDEV': failed('UNIMPLEMENTED'),
  'sys/ELOOP': failed('FAILED_PRECONDITION'),
  'sys/EBADF': failed('INTERNAL'),
  'sys/EINVAL': failed('INVALID_ARGUMENT'),
  'sys/EEXIST': failed('ALREADY_EXISTS'),
  'sys/EBUSY': failed('FAILED_PRECONDITION'),
  'sys/EIO': failed('DATA_LOSS'),
  'sys/EBADMSG': failed('DATA_LOSS'),
  'sys/EUCLEAN': failed('DATA_LOSS'),
  'sys/ENOSPC': failed('RESOURCE_EXHAUSTED'),
  'sys/ERANGE': failed('RESOURCE_EXHAUSTED'),
  'mount/invalid-image': failed('DATA_LOSS'),
  'mount/mismatch': failed('DATA_LOSS'),
  'mount/missing': failed('NOT_FOUND'),
  'mount/bad-target': failed('INVALID_ARGUMENT'),
  'mount/bad-option': failed('INVALID_ARGUMENT'),
  'mount/bad-upper': failed('FAILED_PRECONDITION'),
  'mount/upper-in-use': failed('FAILED_PRECONDITION'),
  'mount/too-many': failed('RESOURCE_EXHAUSTED'),
  'mount/busy': failed('FAILED_PRECONDITION'),
  'mount/not-mounted': failed('NOT_FOUND'),
  'mount/not-permitted': failed('PERMISSION_DENIED'),
  'mount/unsupported': failed('UNIMPLEMENTED'),
  'mount/refused': failed('FAILED_PRECONDITION'),
  'oci/ambiguous': failed('FAILED_PRECONDITION'),
  'oci/digest': failed('INVALID_ARGUMENT'),
  'oci/digest-mismatch': failed('DATA_LOSS'),
  'oci/exists': failed('ALREADY_EXISTS'),
  'oci/invalid': failed('DATA_LOSS'),
  'oci/limit': failed('RESOURCE_EXHAUSTED'),
  'oci/no-platform': failed('NOT_FOUND'),
  'oci/not-found': failed('NOT_FOUND'),
  'oci/platform': { exit: 2, grpc: 'INVALID_ARGUMENT' },
  'oci/reference': { exit: 2, grpc: 'INVALID_ARGUMENT' },
  'oci/unsupported': failed('UNIMPLEMENTED'),
  'registry/auth': failed('UNAUTHENTICATED'),
  'registry/credentials': failed('FAILED_PRECONDITION'),
  'registry/denied': failed('PERMISSION_DENIED'),
  'registry/not-found': failed('NOT_FOUND'),
  'registry/protocol': failed('DATA_LOSS'),
  'registry/refused': failed('FAILED_PRECONDITION'),
  'registry/tls': failed('FAILED_PRECONDITION'),
  'registry/unavailable': failed('UNAVAILABLE'),
  'verity/corrupt': failed('DATA_LOSS'),
  'verity/mismatch': failed('DATA_LOSS'),
  'verity/unsupported': failed('UNIMPLEMENTED'),
  'delta/base': failed('FAILED_PRECONDITION'),
  'delta/corrupt': failed('DATA_LOSS'),
  'delta/limit': failed('RESOURCE_EXHAUSTED'),
  'delta/mismatch': failed('DATA_LOSS'),
  'delta/unsupported': failed('UNIMPLEMENTED'),
  'disk/corrupt': failed('DATA_LOSS'),
  'disk/unsupported': failed('UNIMPLEMENTED'),
  'disk/limit': failed('RESOURCE_EXHAUSTED'),
  'hooks/bad-config': failed('FAILED_PRECONDITION'),
  'hooks/bad-reply': failed('FAILED_PRECONDITION'),
  'hooks/failed': failed('FAILED_PRECONDITION'),
  'hooks/timeout': failed('UNAVAILABLE'),
  'hooks/lied': failed('DATA_LOSS'),
  'rootfs/changed': failed('FAILED_PRECONDITION'),
  'rootfs/overlay': failed('FAILED_PRECONDITION'),
  'rootfs/not-empty': failed('ALREADY_EXISTS'),
  'rootfs/refused': failed('PERMISSION_DENIED'),
  'rootfs/unmapped-id': failed('FAILED_PRECONDITION'),
  'snapshot/not-found': failed('NOT_FOUND'),
  'snapshot/exists': failed('ALREADY_EXISTS'),
  'snapshot/invalid': failed('INVALID_ARGUMENT'),
  'snapshot/state': failed('FAILED_PRECONDITION'),
  'snapshot/damaged': failed('DATA_LOSS'),
  'serve/running': failed('FAILED_PRECONDITION'),
  'serve/no-service': failed('NOT_FOUND'),
  'serve/config': { exit: 2, grpc: 'INVALID_ARGUMENT' },
  'serve/busy': failed('UNAVAILABLE'),
  'store/no-image': failed('NOT_FOUND'),
  'store/ambiguous': failed('INVALID_ARGUMENT'),
  'store/bad-name': failed('INVALID_ARGUMENT'),
  'store/in-use': failed('FAILED_PRECONDITION'),
  'store/missing': failed('DATA_LOSS'),
  'store/corrupt': failed('DATA_LOSS'),
  'store/database': failed('INTERNAL'),
  'store/mismatch': failed('DATA_LOSS'),
  'store/unsupported': failed('UNIMPLEMENTED'),
} as const satisfies Record<string, CodeMeaning>;

export type ErrorCode = keyof typeof ERROR_CODES;

export interface ErrorDetails {
  /** What the user can do about it, one sentence. */
  readonly hint?: string;
  readonly cause?: unknown;
}

/** Every error that veneer raises on purpose. */
export class VeneerError extends Error {
  override readonly name = 'VeneerError';
  readonly code: ErrorCode;
  readonly hint: string | undefined;

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.code = code;
    this.hint = details.hint;
  }
}

/** Something odd that did not stop the work: recoverable, reported beside the result, never dropped in silence. */
export interface Finding {
  /** Stable code, `room/what`, as in {@link ErrorCode} but free to grow. */
  readonly code: string;
  /** One sentence, names the reason. */
  readonly message: string;
  /** Byte string of the path it is about, if any. */
  readonly path?: string;
  /** Byte offset in the input, if any. */
  readonly offset?: number;
}
