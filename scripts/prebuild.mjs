// Builds the addon that the package contains for this machine's platform: `npm run prebuild`, and before `npm pack`. It
// is written to prebuilds/<platform>-<architecture>, with a file that identifies its sources; if that is up to date, nothing is done.
// It contains the CUDA device if nvcc is found. On Linux it requires no newer glibc than the one below.

import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { packageVersion } from '../src/base/version.ts';
import { buildAddon, deliver } from '../src/devices/build.ts';
import { platform, prebuiltAddon, sourceFolder, usesMusl } from '../src/devices/places.ts';
import { findNvcc } from '../src/devices/tools.ts';

/** Older than what Node.js 20 itself requires (2.28), and the oldest for arm64. */
const glibc = '2.17';

const root = sourceFolder();
const scripts = dirname(fileURLToPath(import.meta.url));
const manifest = join(dirname(prebuiltAddon()), 'build.json');

/** Hash of everything that the addon is compiled from. */
function hashOfSources() {
  const files = readdirSync(join(root, 'native'), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && /\.(cpp|cu|cuh|hpp|h|inl)$/.test(entry.name))
    .map((entry) => join(entry.parentPath, entry.name));
  const hash = createHash('sha256').update(packageVersion());
  for (const file of [...files.sort(), join(root, 'CMakeLists.txt'), join(scripts, 'glibc-stubs.mjs')]) {
    const name = file.slice(root.length).replaceAll('\\', '/');
    hash.update(`\0${name}\0`).update(readFileSync(file, 'utf8').replaceAll('\r\n', '\n'));
  }
  return hash.digest('hex');
}

function present() {
  return existsSync(prebuiltAddon()) && existsSync(manifest) ? JSON.parse(readFileSync(manifest, 'utf8')) : undefined;
}

/** Other platforms' addons come from other machines: they must be built from these sources too. */
function checkOthers(sources) {
  const folder = join(root, 'prebuilds');
  for (const other of existsSync(folder) ? readdirSync(folder) : []) {
    const file = join(folder, other, 'build.json');
    if (other === platform || (existsSync(file) && JSON.parse(readFileSync(file, 'utf8')).sources === sources))
      continue;
    throw new Error(`prebuilds/${other} was built from other sources: build it again there, or remove it`);
  }
}

const say = (text) => console.error(`prebuild: ${text}`);

async function prebuild() {
  const sources = hashOfSources();
  checkOthers(sources);
  const before = present();
  const cuda = findNvcc() ? 'on' : 'off';
  if (before?.sources === sources && (before.cuda || cuda === 'off')) return say(`${platform} is up to date`);
  if (usesMusl()) throw new Error('prebuilt addons for Linux are built on a system with glibc');
  const start = performance.now();
  const folder = join(root, 'build', 'cmake');
  const glibcStubs = process.platform === 'linux' ? join(root, 'build', `glibc-${glibc}`) : undefined;
  if (glibcStubs)
    execFileSync(process.execPath, [join(scripts, 'glibc-stubs.mjs'), glibcStubs, glibc], { stdio: 'inherit' });
  let tenths = -1;
  const onProgress = (what, done) => {
    if (Math.floor(10 * done) > tenths) say(`${what} ${Math.floor(100 * done)} %`);
    tenths = Math.floor(10 * done);
  };
  const built = await buildAddon({ cuda, folder, glibcStubs, onProgress });
  deliver(built.addon, prebuiltAddon());
  const description = { version: packageVersion(), cuda: built.cuda, ...(glibcStubs && { glibc }), sources };
  writeFileSync(manifest, `${JSON.stringify(description, null, 2)}\n`);
  const size = (statSync(prebuiltAddon()).size / 1e6).toFixed(1);
  const seconds = Math.round((performance.now() - start) / 1000);
  say(`${platform}: ${size} MB in ${seconds} s, with ${built.tools}`);
  if (!built.cuda) say('without the CUDA device: nvcc was not found');
}

try {
  await prebuild();
} catch (error) {
  say(error.message);
  process.exitCode = 1;
}
