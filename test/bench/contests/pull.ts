/** From a gzip layout to a mounted image: the main job. */

import { ContainerdLab, type Peer } from '../../support/containerd-lab.ts';
import type { Contest, Contestant } from '../contest.ts';
import { type BenchImage, warm } from '../inputs.ts';
import { type BenchLab, run, runVeneer, veneer } from '../lab.ts';
import { mkfsLayers, mkfsMerge, shell, umociUnpack, untar } from '../peers.ts';

/** A mount namespace in which the library is an empty file, and so no library. */
const WITHOUT_ISAL = [
  'unshare',
  '--mount',
  'sh',
  '-c',
  'for lib in /usr/lib/*/libisal.so.2; do mount --bind /dev/null "$lib"; done; exec "$@"',
  'sh',
];

export function pullContests(lab: BenchLab): Contest[] {
  return lab.images.map((image) => pullContest(lab, image));
}

function pullContest(lab: BenchLab, image: BenchImage): Contest {
  const out = lab.path('out');
  const fresh = (): void => {
    lab.fresh('out');
    warm(image.blobs);
  };
  const remove = (): void => lab.remove('out');
  const archive = lab.path('image.tar');

  const ours = (key: string, title: string, flags: string[], prefix: string[] = []): Contestant => {
    const root = lab.path('store');
    const at = lab.path('mnt');
    const pull = veneer(
      'pull',
      `oci:${image.layout}:latest`,
      '--name',
      'bench',
      '--root',
      root,
      '--quiet',
      ...flags,
    );
    return {
      key,
      title,
      argv: shell([...prefix, ...pull], veneer('mount', 'bench', at, '--root', root, '--quiet')),
      before: () => {
        lab.fresh('store');
        lab.fresh('mnt');
        warm(image.blobs);
      },
      after: () => {
        runVeneer('umount', at, '--root', root, '--quiet');
        lab.remove('store');
        lab.remove('mnt');
      },
    };
  };
  const containerd = (snapshotter: Peer): Contestant => {
    const daemon = new ContainerdLab('2', {
      peer: snapshotter,
      directory: lab.path(`containerd-${snapshotter}`),
    });
    return {
      key: `containerd-${snapshotter}`,
      title: `containerd import + unpack, ${snapshotter}`,
      argv: daemon.ctrCommand('images', 'import', '--snapshotter', snapshotter, archive),
      memoryElsewhere: true,
      before: async () => {
        run(['tar', '-C', image.layout, '-cf', archive, '.']);
        warm([archive]);
        await daemon.start();
      },
      after: () => daemon.close(),
    };
  };

  return {
    name: 'pull',
    title: `gzip layout to mounted image: ${image.name} (${image.blobs.length} layers)`,
    notes:
      'Empty store or folder each time. veneer: `pull` and `mount`, two processes, image mounted at the end. ' +
      'ISA-L is installed: veneer and containerd (by igzip) inflate with it, the others and the floor have zlib. ' +
      'The peers do not fsync and, but for containerd, verify nothing; they end with images or a tree on disk, not mounted. mkfs.erofs merges only images without inline data.',
    contestants: [
      ours('ours', 'veneer, --no-fsync', ['--no-fsync']),
      ours('ours-fsync', 'veneer (fsync, the default)', []),
      ours('ours-zlib', 'veneer, --no-fsync, without ISA-L', ['--no-fsync'], WITHOUT_ISAL),
      {
        key: 'floor',
        title: 'only inflate and hash, Node, both cores',
        argv: [process.execPath, new URL('../floor.ts', import.meta.url).pathname, ...image.blobs],
        before: () => warm(image.blobs),
      },
      {
        key: 'mkfs',
        title: 'mkfs.erofs --tar=f --ungzip -Enoinline_data, layer by layer, + merge',
        argv: shell(
          ...mkfsLayers(image.blobs, out, '--tar=f', '--ungzip', '-Enoinline_data'),
          mkfsMerge(image.blobs.length, out),
        ),
        before: fresh,
        after: remove,
      },
      containerd('erofs'),
      containerd('overlayfs'),
      {
        key: 'umoci',
        title: 'umoci unpack',
        argv: umociUnpack(image, `${out}/bundle`),
        before: fresh,
        after: remove,
      },
      {
        key: 'tar',
        title: 'tar -xzf, each layer into its own folder',
        argv: untar(image, out),
        before: fresh,
        after: remove,
      },
    ],
    targets: [
      {
        text: 'veneer vs mkfs.erofs --tar=f --ungzip + merge',
        ours: 'ours',
        peer: 'mkfs',
        metric: 'wall',
        factor: 0.55,
      },
      {
        text: 'veneer vs containerd, erofs',
        ours: 'ours',
        peer: 'containerd-erofs',
        metric: 'wall',
        factor: 0.35,
      },
      {
        text: 'veneer vs containerd, overlayfs',
        ours: 'ours',
        peer: 'containerd-overlayfs',
        metric: 'wall',
        factor: 0.2,
      },
      { text: 'veneer vs inflate + hash alone', ours: 'ours', peer: 'floor', metric: 'wall', factor: 1.3 },
      { text: 'peak memory', ours: 'ours', metric: 'memory', plus: 300e6 },
      { text: 'peak memory, with fsync', ours: 'ours-fsync', metric: 'memory', plus: 300e6 },
    ],
    close: () => lab.remove('image.tar'),
  };
}
