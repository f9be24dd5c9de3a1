/**
 * What is said to hooks and what they answer, version 1. The same objects go to callbacks and, as JSON, to programs;
 * docs/hooks.md tells it to those who write them, docs/hooks/*.schema.json to machines.
 */
import * as v from 'valibot';

export const PROTOCOL = 1;

/** A blob that the manifest names, or the manifest itself, with what is in it. */
export interface HookDocument {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
  /** The JSON document. */
  readonly content: unknown;
}

export interface HookLayer {
  /** 0 is the lowest. */
  readonly index: number;
  readonly mediaType: string;
  /** Of the blob. */
  readonly digest: string;
  readonly size: number;
  /** Of the uncompressed tar. */
  readonly diffID: string;
  /** Of this layer and all below it. */
  readonly chainID: string;
  /** Of all below it; null for the lowest. */
  readonly parentChainID: string | null;
}

export interface HookIdMap {
  readonly container: number;
  readonly host: number;
  readonly size: number;
}

/** What every request says: which image goes into which bundle. Paths are absolute. */
export interface HookSubject {
  readonly bundle: string;
  readonly rootfs: string;
  /** The OCI layout, and the image's tag in it. */
  readonly source: { readonly layout: string; readonly tag: string };
  readonly manifest: HookDocument;
  readonly config: HookDocument;
  /** All layers, lowest first. */
  readonly layers: readonly HookLayer[];
  readonly maps: {
    readonly uid: readonly HookIdMap[];
    readonly gid: readonly HookIdMap[];
    readonly rootless: boolean;
  };
}

interface AboutLayer {
  readonly layer: HookLayer;
}

interface AboutDirectory extends AboutLayer {
  /** Where the layer goes: `rootfs`, or the directory that a hook gave. */
  readonly target: string;
  /**
   * Whether what is in a hook's own directory depends on the layer alone. If not, it has attributes of directories or
   * hard-linked files of the layers below, and is right above these only.
   */
  readonly portable: boolean;
}

/** An event that a hook answered and that is to be undone. */
export interface HookDeed {
  readonly event: HookEvent;
  /** Index of the layer it was about; null when about none. */
  readonly layer: number | null;
}

/** What requests say besides {@link HookSubject}. */
export interface HookFacts {
  'unpack.ociv1.image.prepare': object;
  'unpack.ociv1.layer.try-skip': AboutLayer;
  'unpack.ociv1.layer.extract-to': AboutLayer;
  'unpack.ociv1.layer.pre-extract': AboutDirectory;
  'unpack.ociv1.layer.post-extract': AboutDirectory;
  'unpack.ociv1.layer.commit': AboutDirectory;
  'unpack.ociv1.image.assemble': {
    /** One a layer, lowest first, as hooks gave them; empty when all is in `rootfs` already. */
    readonly directories: readonly string[];
  };
  'unpack.ociv1.bundle.finish': object;
  'unpack.ociv1.image.abort': {
    readonly reason: string;
    /** What this hook answered, latest first. */
    readonly deeds: readonly HookDeed[];
  };
  'repack.ociv1.delta-list': object;
  'repack.ociv1.layer.pre-generate': object;
  'repack.ociv1.layer.post-generate': {
    /** The new layer, or null when nothing had changed. */
    readonly layer: HookLayer | null;
    readonly newManifest: Omit<HookDocument, 'content'>;
  };
  'repack.ociv1.bundle.refresh': object;
}

export type HookEvent = keyof HookFacts;

const absolute = v.pipe(
  v.string(),
  v.regex(/^\/(?!.*(?:^|\/)\.\.(?:\/|$))[^\0]*$/s, 'not an absolute path without ".."'),
);
const nothing = v.strictObject({});

/** What a hook may answer, one schema an event. Fields that are not known are refused: they would be typing errors. */
export const REPLIES = {
  'unpack.ociv1.image.prepare': v.strictObject({
    /** A copy holds a layer and all below it: layers go into `rootfs` one after the other. */
    cumulative: v.optional(v.boolean(), false),
    /** This hook will answer `delta-list`: nobody need write down what the files are now. */
    deltas: v.optional(v.boolean(), false),
  }),
  'unpack.ociv1.layer.try-skip': v.strictObject({
    /** Where the layer is; absent from cumulative hooks, which have put it and all below it into `rootfs`. */
    directory: v.optional(absolute),
    /** What the copy holds, lowest first: this layer, from cumulative hooks all below it too. */
    diffIDs: v.optional(v.array(v.string())),
  }),
  'unpack.ociv1.layer.extract-to': v.strictObject({ directory: absolute }),
  'unpack.ociv1.layer.pre-extract': nothing,
  'unpack.ociv1.layer.post-extract': nothing,
  'unpack.ociv1.layer.commit': nothing,
  'unpack.ociv1.image.assemble': nothing,
  'unpack.ociv1.bundle.finish': nothing,
  'unpack.ociv1.image.abort': nothing,
  'repack.ociv1.delta-list': v.union(
    [
      /** A file of names, one JSON object a line. */
      v.strictObject({ paths: absolute }),
      /** The upper directory of an overlayfs, and where that keeps its attributes. */
      v.strictObject({
        overlay: absolute,
        xattrs: v.optional(v.picklist(['trusted', 'user']), 'trusted'),
      }),
    ],
    'neither { paths } nor { overlay }',
  ),
  'repack.ociv1.layer.pre-generate': v.strictObject({
    /** A copy of the root file system that stands still; it is read instead. */
    rootfs: v.optional(absolute),
  }),
  'repack.ociv1.layer.post-generate': nothing,
  'repack.ociv1.bundle.refresh': nothing,
} as const satisfies Record<HookEvent, v.GenericSchema>;

export type HookReply<E extends HookEvent> = v.InferOutput<(typeof REPLIES)[E]>;
/** As hooks may write it: fields with defaults left out. */
export type HookAnswer<E extends HookEvent> = v.InferInput<(typeof REPLIES)[E]>;

export type HookRequest<E extends HookEvent = HookEvent> = HookSubject &
  HookFacts[E] & { readonly protocol: typeof PROTOCOL; readonly event: E };

export const HOOK_EVENTS = Object.keys(REPLIES) as readonly HookEvent[];

/** Is it of one layer? These are told only to hooks for its media type. */
export function isLayerEvent(event: HookEvent): boolean {
  return event.startsWith('unpack.ociv1.layer.');
}

/** Questions: the first hook that answers decides, the others are not asked. All other events are told to every hook. */
export const QUESTIONS = new Set<HookEvent>([
  'unpack.ociv1.layer.try-skip',
  'unpack.ociv1.layer.extract-to',
  'unpack.ociv1.image.assemble',
  'repack.ociv1.delta-list',
  'repack.ociv1.layer.pre-generate',
]);
