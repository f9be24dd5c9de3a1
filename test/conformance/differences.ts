/**
 * Where an oracle gives another tree than veneer, and why. A difference that is not listed
 * here (for GNU tar: in the case itself) fails the test, and so does a listed one that is not
 * there any more.
 */
export interface Difference {
  /** Names of the cases it applies to. */
  readonly cases: RegExp;
  readonly reason: string;
}

/** mkfs.erofs 1.9: --tar=i, --tar=f, and its merge. */
export const mkfsDifferences: readonly Difference[] = [
  { cases: /^format\/v7/, reason: 'it wants the magic of ustar' },
  { cases: /^format\/(file-with-slash|empty-name-file)$/, reason: 'it makes no directory of a file entry' },
  { cases: /^format\/star$/, reason: 'it knows no star headers' },
  { cases: /^format\/oldgnu-times-in-prefix$/, reason: "it takes GNU's times for a prefix" },
  { cases: /^format\/dumpdir$/, reason: 'it leaves out dump directories' },
  { cases: /^pax\/global(-again)?$/, reason: 'it reads only some keywords of global headers' },
  { cases: /^pax\/size-not-for-long-name$/, reason: 'it lets the size of an x header act on an L header' },
  { cases: /^pax\/sun-extended-header$/, reason: 'it does not know the type X' },
  { cases: /^pax\/(nul-padding|many-times)$/, reason: 'it gives up on such records' },
  {
    cases: /^sparse\/(?!(all-data|empty)-0\.0$)/,
    reason: 'it knows no sparse files: it stores the archived runs, or leaves the file out',
  },
  { cases: /^link\/to-special$/, reason: 'it makes two inodes of a special file and its hard link' },
  {
    cases: /^(link\/(with-data|with-size-without-data$|directory-and-symlink-with-size)|symlink\/with-data)/,
    reason: 'it skips as many bytes as the size of an entry says, also where none follow',
  },
  { cases: /^link\/(to-lower-layer|lower-(target|under))/, reason: 'it refuses hard links to lower layers' },
  {
    cases: /^symlink\/kinds$/,
    reason: 'it keeps a mode other than 0777 of a symlink, which Linux does not have',
  },
  { cases: /^symlink\/parent-/, reason: 'it refuses entries below a symlink' },
  { cases: /^duplicate\/file-as-parent$/, reason: 'it refuses entries below a file' },
  { cases: /^name\/ends-in-dot$/, reason: 'it takes d/. for d' },
  {
    cases: /^attribute\/xattr-names$/,
    reason: 'it stores a name that is only a prefix, which the kernel cannot list',
  },
  { cases: /^attribute\/xattrs-of-overlay$/, reason: "its merge keeps overlayfs's own attributes" },
  {
    cases: /^whiteout\/(entry-then-whiteout|directory-recreated|directory-recreated-first)$/,
    reason: 'a whiteout deletes entries of its own layer too, or, where they come after it, nothing below',
  },
  {
    cases: /^whiteout\/directory-recreated-implied$/,
    reason: 'it refuses entries below a whiteout of its layer',
  },
  {
    cases: /^whiteout\/with-data$/,
    reason: 'in index mode a whiteout with data becomes a device that stays',
  },
  {
    cases: /^whiteout\/whole-then-part$/,
    reason: 'the whiteout of the directory deletes what the other one implies',
  },
  {
    cases: /^whiteout\/empty-name$/,
    reason: 'it writes an entry without a name, which its merge cannot read',
  },
  { cases: /^whiteout\/(aufs-metadata|below-a-whiteout)$/, reason: "it keeps aufs's own files" },
  { cases: /^opaque\/root$/, reason: 'it refuses a layer whose root is opaque' },
  { cases: /^merge\/file-to-directory-and-back$/, reason: 'its merge brings back what a file had replaced' },
  { cases: /^name\/deepest$/, reason: 'its merge does not survive 1,900 directories' },
  { cases: /^end\/lone-zero-block-inside$/, reason: 'it reads on behind one block of zeros' },
  {
    cases: /^whiteout\/overlay-device$/,
    reason: 'to it a device 0/0 is a whiteout, in a layer it is a device',
  },
];

/** umoci 0.6. */
export const umociDifferences: readonly Difference[] = [
  {
    cases: /^(format\/(contiguous-file|dumpdir|volume-label|unknown-type)|pax\/(global|sun-))/,
    reason: 'it refuses types that it does not know, g among them',
  },
  { cases: /^sparse\/(.*-old-gnu|no-end-mark|long-name|hard-linked)$/, reason: 'it refuses the type S' },
  { cases: /^format\/empty-name-file$/, reason: 'it takes a file without a name for the root' },
  {
    cases: /^(pax\/nul-padding|link\/with-data|symlink\/with-data|end\/lone-zero-block-inside)/,
    reason: "Go's tar reader stumbles here",
  },
  { cases: /^pax\/many-times$/, reason: 'Go cuts digits beyond the nanosecond off instead of rounding down' },
  { cases: /^attribute\/times$/, reason: 'its nanoseconds overflow in the year 2262' },
  { cases: /^attribute\/xattrs$/, reason: 'Go drops attributes without a value' },
  { cases: /^attribute\/xattr-names$/, reason: 'the kernel refuses a name that is only a prefix' },
  { cases: /^attribute\/xattrs-of-overlay$/, reason: "it keeps overlayfs's own attributes" },
  { cases: /^attribute\/xattrs-libarchive$/, reason: 'it does not know the encoded form' },
  { cases: /^link\/to-itself$/, reason: 'it removes the file first' },
  { cases: /^symlink\/lower-as-directory$/, reason: 'it follows symlinks of the lower layers' },
  {
    cases: /^(duplicate\/file-as-parent|merge\/implied-over-file)$/,
    reason: 'the directory gets the mode of the file',
  },
  {
    cases: /^whiteout\/(of-nothing|whole-then-part)$/,
    reason: 'it makes no parents for whiteouts; containerd does',
  },
  {
    cases: /^whiteout\/(directory-recreated-(first|implied)|empty-name|aufs-metadata|below-a-whiteout)$/,
    reason: 'it acts on whiteouts entry by entry, and only on those it knows',
  },
];

/** What overlayfs over one image a layer cannot show. */
export const layeredDifferences: readonly Difference[] = [
  { cases: /^whiteout\/overlay-device$/, reason: 'to overlayfs a device 0/0 is a whiteout' },
];

/** Cases that would take umoci minutes: it is not asked. */
export const umociNotAsked: readonly Difference[] = [
  { cases: /^sparse\/(huge|map-over)/, reason: 'umoci writes every zero of a hole' },
  { cases: /^name\/deepest$/, reason: 'umoci takes half a minute for 2,000 directories' },
];

export function findDifference(table: readonly Difference[], name: string): Difference | undefined {
  return table.find(({ cases }) => cases.test(name));
}
