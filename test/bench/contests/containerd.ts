/** Beside containerd's own snapshotters, all through ctr: the time of the client, and so of the daemons it waits for. */
import { execFileSync } from 'node:child_process';
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { chainIds } from '../../../src/oci/digest.ts';
import { ContainerdLab, type Peer } from '../../support/containerd-lab.ts';
import type { Contest, Contestant } from '../contest.ts';
import { type BenchImage, warm } from '../inputs.ts';
import type { BenchLab } from '../lab.ts';
import { shell } from '../peers.ts';

type Who = 'veneer' | Peer;
const ALL: readonly Who[] = ['veneer', 'erofs', 'overlayfs'];
const TITLES: Record<Who, string> = {
  veneer: 'veneer serve',
  erofs: "containerd's erofs snapshotter",
  overlayfs: "containerd's overlayfs snapshotter",
};
/** One alone differs more from the next than one snapshotter from another. */
const CONTAINERS = 20;
const PREPARE = fileURLToPath(new URL('../prepare.ts', import.meta.url));

/** One containerd with one snapshotter. */
class Node {
  readonly who: Who;
  readonly lab: ContainerdLab;
  readonly archive: string;
  readonly importing: string[];
  readonly #image: BenchImage;

  constructor(who: Who, image: BenchImage, bench: BenchLab) {
    const directory = bench.path(`containerd-${who}`);
    this.who = who;
    this.lab = new ContainerdLab('2', who === 'veneer' ? { directory } : { directory, peer: who });
    this.archive = bench.path(`${image.name}.tar`);
    this.importing = this.lab.ctrCommand('images', 'import', '--snapshotter', who, this.archive);
    this.#image = image;
  }

  async start(): Promise<void> {
    execFileSync('tar', ['-C', this.#image.layout, '-cf', this.archive, '.']);
    warm([this.archive]);
    await this.lab.start();
  }

  async close(): Promise<void> {
    await this.lab.close();
    rmSync(this.archive, { force: true });
  }
}

interface Documents {
  readonly name: string;
  readonly chain: string;
}

/** What containerd calls the image, and its topmost snapshot. */
function documentsOf({ layout }: BenchImage): Documents {
  const read = (digest: string) =>
    JSON.parse(readFileSync(join(layout, 'blobs', digest.replace(':', '/')), 'utf8'));
  const index = JSON.parse(readFileSync(join(layout, 'index.json'), 'utf8'));
  const [{ digest, annotations }] = index.manifests;
  const config = read(read(digest).config.digest);
  return { name: annotations['io.containerd.image.name'], chain: chainIds(config.rootfs.diff_ids).at(-1)! };
}

export function containerdContests(lab: BenchLab): Contest[] {
  return lab.images.flatMap((image) => [
    importContest(lab, image),
    runContest(lab, image),
    removeContest(lab, image),
  ]);
}

function importContest(lab: BenchLab, image: BenchImage): Contest {
  const { chain } = documentsOf(image);
  const contestants = ALL.map((who): Contestant => {
    const node = new Node(who, image, lab);
    const view = node.lab.ctrCommand('snapshots', '--snapshotter', who, 'view', 'look', chain);
    return {
      key: who,
      title: TITLES[who],
      argv: shell(node.importing, view),
      memoryElsewhere: true,
      before: () => node.start(),
      after: () => node.close(),
    };
  });
  return {
    name: 'containerd',
    title: `ctr images import, and a view of the image: ${image.name} (${image.blobs.length} layers)`,
    notes:
      'containerd 2.1 with nothing in it each time. The view waits until the image can be mounted. veneer fsyncs, the others do not.',
    contestants,
    targets: [
      { text: 'vs erofs', ours: 'veneer', peer: 'erofs', metric: 'wall', factor: 0.6 },
      { text: 'vs overlayfs', ours: 'veneer', peer: 'overlayfs', metric: 'wall', factor: 0.33 },
    ],
  };
}

/** Contestants that all find the image imported; the daemons live as long as the contest. */
function standing(
  lab: BenchLab,
  image: BenchImage,
  argv: (node: Node) => string[],
  before: (node: Node) => Promise<void> = async () => {},
): { contestants: Contestant[]; nodes: Node[]; close: () => Promise<void> } {
  const nodes = ALL.map((who) => new Node(who, image, lab));
  const ready = new Set<Node>();
  const contestants = nodes.map((node): Contestant => {
    return {
      key: node.who,
      title: TITLES[node.who],
      argv: argv(node),
      memoryElsewhere: true,
      before: async () => {
        if (!ready.has(node)) {
          await node.start();
          ready.add(node);
        }
        await before(node);
      },
    };
  });
  const close = async (): Promise<void> => {
    for (const node of nodes) await node.close();
  };
  return { contestants, nodes, close };
}

const importNow = async (node: Node): Promise<void> => {
  await node.lab.ctr('images', 'import', '--snapshotter', node.who, node.archive);
};

function runContest(lab: BenchLab, image: BenchImage): Contest {
  const { name, chain } = documentsOf(image);
  const imported = new Set<Node>();
  const { contestants, nodes, close } = standing(
    lab,
    image,
    // Another name each time.
    (node) => [
      'sh',
      '-c',
      `for i in $(seq ${CONTAINERS}); do "$@" "c$$-$i" true || exit; done`,
      'sh',
      ...node.lab.ctrCommand('run', '--rm', '--snapshotter', node.who, name),
    ],
    async (node) => {
      if (imported.has(node)) return;
      imported.add(node);
      await importNow(node);
      // Nobody is first.
      await node.lab.ctr('run', '--rm', '--snapshotter', node.who, name, 'first', 'true');
    },
  );
  const ours = nodes[0]!;
  const prepare: Contestant = {
    key: 'prepare',
    title: 'veneer: Prepare and Mounts of a container, by gRPC',
    argv: [process.execPath, PREPARE, ours.lab.path('veneer.sock'), chain],
    memoryElsewhere: true,
    seconds: Number,
    before: contestants[0]!.before!,
  };
  return {
    name: 'containerd',
    title: `ctr run --rm … true, ${CONTAINERS} times: ${image.name}`,
    contestants: [...contestants, prepare],
    targets: [
      { text: 'vs erofs', ours: 'veneer', peer: 'erofs', metric: 'wall', factor: 1 },
      { text: 'vs overlayfs', ours: 'veneer', peer: 'overlayfs', metric: 'wall', factor: 1 },
      { text: 'Prepare and Mounts, median', ours: 'prepare', metric: 'wall', plus: 0.01 },
    ],
    close,
  };
}

function removeContest(lab: BenchLab, image: BenchImage): Contest {
  const { name } = documentsOf(image);
  const { contestants, close } = standing(
    lab,
    image,
    (node) => node.lab.ctrCommand('images', 'rm', '--sync', name),
    importNow,
  );
  return {
    name: 'containerd',
    title: `ctr images rm --sync: ${image.name}`,
    contestants,
    targets: [
      { text: 'vs erofs', ours: 'veneer', peer: 'erofs', metric: 'wall', factor: 1 },
      { text: 'vs overlayfs', ours: 'veneer', peer: 'overlayfs', metric: 'wall', factor: 1 },
    ],
    close,
  };
}
