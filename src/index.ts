/**
 * `veneer`: pull images, read them, mount them.
 *
 * The parts have entries of their own: `veneer/tar`, `veneer/tree`, `veneer/diff`, `veneer/erofs`, `veneer/udf`, `veneer/oci`, `veneer/store`.
 * See docs/library.md and examples/.
 */
export { ERROR_CODES, type ErrorCode, type Finding, type GrpcStatus, VeneerError } from './errors.ts';
export {
  applyMount,
  type ListedMount,
  listMounts,
  type MountPlan,
  type MountRecord,
  type MountRequest,
  planMount,
  probeCapabilities,
  type UnmountReport,
  unmount,
} from './mount/index.ts';
export {
  type ImageSource,
  openDockerArchive,
  openLayout,
  type Platform,
  parseImageSource,
  parsePlatform,
} from './oci/index.ts';
export type { OnProgress, ProgressEvent } from './progress/events.ts';
export { openRegistry, type RegistryOptions } from './registry/index.ts';
export {
  type ImageRecord,
  mountable,
  type OpenImage,
  openTree,
  type PullOptions,
  pullImage,
  resolveImage,
  Store,
  type StoreOptions,
} from './store/index.ts';
export { type FileTree, lookupPath, type TreeNode, walkTree } from './tree/index.ts';
