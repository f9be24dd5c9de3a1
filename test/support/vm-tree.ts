/** Compares whole mounted trees across machines: the same shell function on both sides. */
import { execFileSync } from 'node:child_process';

/**
 * Shell function `tree DIR`: a line for every name in DIR, with a digest over all that is below it: type, mode, owner,
 * time to the nanosecond, size, link count, link target, and the content of files.
 */
export const TREE_FUNCTION = `tree() { ( cd "$1"; export LC_ALL=C; ls -A | sort | while IFS= read -r top; do
  printf '%s ' "$top"
  { find "./$top" \\( -type d -printf '%P|%y|%m|%U|%G|%T@\\0' \\) -o -printf '%P|%y|%m|%U|%G|%T@|%s|%l|%n\\0' | sort -z
    find "./$top" -type f -print0 | sort -z | xargs -0r sha256sum -z; } | sha256sum | cut -c1-64
done ); }
`;

/** What `tree` says of a directory here. */
export function treeHere(directory: string): string {
  return execFileSync('bash', ['-c', `${TREE_FUNCTION} tree "$1"`, 'tree', directory], {
    encoding: 'utf8',
    env: { ...process.env, TZ: 'UTC' },
  });
}
