// `groupgrad build`: the addon from source, for machines without a prebuilt one and for another CUDA toolkit.

import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { packageVersion } from '../base/version.js';
import { type BuildOptions, buildAddon, buildMpiAddon, deliver } from '../devices/build.js';
import { cacheFolder, isCheckout, mpiAddon, ownBuild, platform, sourceFolder } from '../devices/places.js';
import { parse, UsageError } from './arguments.js';
import { wrap } from './terminal.js';

export const help = `groupgrad build [--cuda on|off|auto] [--debug]
groupgrad build --mpi

  Compiles the native addon on this machine, which takes a minute without CUDA, and stores it in
  $XDG_CACHE_HOME/groupgrad or ~/.cache/groupgrad. Every project then uses it instead of the prebuilt one, and
  reinstalling the package keeps it. In a checkout it goes into build/Release.

  --cuda     include the CUDA device: on (or fail), off, auto (if nvcc is found). Default: GROUPGRAD_CUDA, else auto,
             or off in a checkout
  --debug    with debug information and little optimisation
  --mpi      instead compile the addon that joins several trainers by MPI (docs/rollout.md), with mpicxx or what
             MPICXX names

  Needs a C++20 compiler and CMake, or make and Python 3 instead of CMake. CUDAARCHS=90 compiles for these GPU
  architectures only; CMAKE_BUILD_PARALLEL_LEVEL limits the number of parallel compilers.
`;

const choices = ['on', 'off', 'auto'] as const;

export async function build(args: readonly string[]): Promise<void> {
  const known = { cuda: { type: 'string' }, debug: { type: 'boolean' }, mpi: { type: 'boolean' } } as const;
  const { flags } = parse(args, [], known);
  if (flags.mpi) return buildMpi(flags);
  const cuda = cudaChoice(flags.cuda);
  say(`groupgrad build: version ${packageVersion()} for ${platform}${flags.debug ? ', for debugging' : ''}`);
  const start = performance.now();
  const folder = buildFolder();
  try {
    const built = await buildAddon({ cuda, debug: flags.debug ?? false, folder: folder.path, onProgress: progress() });
    for (const failure of built.failures) say(`groupgrad build: build failed ${failure}`);
    const { path } = ownBuild();
    deliver(built.addon, path);
    if (built.library) deliver(built.library, join(dirname(path), basename(built.library)));
    const seconds = Math.round((performance.now() - start) / 1000);
    say(`groupgrad build: built in ${seconds} s with ${built.tools}${built.cuda ? '' : ', without the CUDA device'}`);
    console.log(path);
  } finally {
    folder.release();
  }
}

function say(text: string): void {
  console.log(wrap(text));
}

async function buildMpi({ cuda, debug }: { cuda?: string; debug?: boolean }): Promise<void> {
  if (cuda !== undefined || debug) throw new UsageError('--mpi: expected neither --cuda nor --debug with it');
  say(`groupgrad build: the addon for MPI, version ${packageVersion()} for ${platform}`);
  const folder = buildFolder();
  try {
    const { addon, compiler } = await buildMpiAddon(folder.path);
    deliver(addon, mpiAddon());
    say(`groupgrad build: built with ${compiler}`);
    console.log(mpiAddon());
  } finally {
    folder.release();
  }
}

function cudaChoice(flag: string | undefined): BuildOptions['cuda'] {
  const name = flag === undefined && process.env.GROUPGRAD_CUDA ? 'GROUPGRAD_CUDA' : '--cuda';
  const text = flag ?? (process.env.GROUPGRAD_CUDA?.toLowerCase() || (isCheckout() ? 'off' : 'auto'));
  const choice = choices.find((each) => each === text);
  if (choice === undefined)
    throw new UsageError(`${name}: expected one of ${choices.join(', ')}, got ${JSON.stringify(text)}`);
  return choice;
}

/** In a checkout the folder is kept, so that later builds compile only what has changed. */
function buildFolder(): { path: string; release: () => void } {
  if (isCheckout()) return { path: join(sourceFolder(), 'build', 'cmake'), release: () => {} };
  mkdirSync(cacheFolder(), { recursive: true });
  const path = mkdtempSync(join(cacheFolder(), 'building-'));
  const remove = () => rmSync(path, { recursive: true, force: true });
  const stop = (signal: NodeJS.Signals) => {
    remove();
    process.exit(signal === 'SIGINT' ? 130 : 143);
  };
  process.on('SIGINT', stop).on('SIGTERM', stop);
  const release = () => {
    process.off('SIGINT', stop).off('SIGTERM', stop);
    remove();
  };
  return { path, release };
}

/** On a terminal one line that is updated in place; elsewhere a line for each tenth. */
function progress(): NonNullable<BuildOptions['onProgress']> {
  let last = -1;
  return (what, done) => {
    const percent = Math.floor(100 * done);
    if (process.stdout.isTTY) {
      process.stdout.write(`\r\x1b[K  ${what} ${percent} %${done < 1 ? '' : '\r\x1b[K'}`);
    } else if (done === 0 || Math.floor(percent / 10) > last) {
      console.log(`  ${what} ${percent} %`);
    }
    last = Math.floor(percent / 10);
  };
}
