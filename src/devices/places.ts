// Locations of addons: in the package, in a checkout's build folder, and in the user's cache folder, where `groupgrad build`
// stores its result.

import { closeSync, existsSync, openSync, readSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { packageFolder, thisFile } from '../base/package-folder.js';
import { packageVersion } from '../base/version.js';

/** The folder of the package's sources, to build from. Error in a bundle, which has none. */
export function sourceFolder(): string {
  const folder = packageFolder();
  if (folder === undefined) throw new Error(`no folder of the package groupgrad was found from ${thisFile}`);
  return folder;
}

/** Whether this code runs from a checkout of the sources rather than an installed package. */
export function isCheckout(): boolean {
  const folder = packageFolder();
  return folder !== undefined && existsSync(join(folder, 'src'));
}

/** As prebuilt addons are named: `linux-x64`. */
export const platform = `${process.platform}-${process.arch}`;

export interface Place {
  path: string;
  /** How the addon there was built. */
  origin: 'GROUPGRAD_ADDON' | 'build of this checkout' | 'groupgrad build' | 'prebuilt';
}

/**
 * Where to look for the addon, best first; only GROUPGRAD_ADDON if it is set. An addon that the user built precedes the prebuilt
 * one; a checkout does not use one built by an installed package, whose sources may differ.
 */
export function addonPlaces(): Place[] {
  const explicit = process.env.GROUPGRAD_ADDON;
  if (explicit) return [{ path: resolve(explicit), origin: 'GROUPGRAD_ADDON' }];
  if (packageFolder() === undefined) return [ownBuild()]; // a bundle on a machine without the package
  return [ownBuild(), { path: prebuiltAddon(), origin: 'prebuilt' }];
}

/** Where `groupgrad build` and a checkout's own build put the addon. */
export function ownBuild(): Place {
  if (isCheckout())
    return { path: join(sourceFolder(), 'build', 'Release', 'groupgrad.node'), origin: 'build of this checkout' };
  // An addon for Node-API 8 runs in every later Node.js.
  const key = `${packageVersion()}-${platform}${usesMusl() ? '-musl' : ''}-napi8`;
  return { path: join(cacheFolder(), 'addons', key, 'groupgrad.node'), origin: 'groupgrad build' };
}

/** Where `groupgrad build --mpi` puts the addon for MPI, and where it is loaded from; GROUPGRAD_MPI_ADDON names another place. */
export function mpiAddon(): string {
  const explicit = process.env.GROUPGRAD_MPI_ADDON;
  return explicit ? resolve(explicit) : join(dirname(ownBuild().path), 'groupgrad-mpi.node');
}

export function prebuiltAddon(): string {
  return join(sourceFolder(), 'prebuilds', platform, 'groupgrad.node');
}

/** $XDG_CACHE_HOME/groupgrad or ~/.cache/groupgrad. */
export function cacheFolder(): string {
  return join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'groupgrad');
}

let musl: boolean | undefined;

/** Whether this Node.js runs on musl, as in Alpine Linux: its executable names the loader, in its first bytes. */
export function usesMusl(): boolean {
  musl ??= process.platform === 'linux' && startOf(process.execPath).includes('/ld-musl-');
  return musl;
}

function startOf(path: string): string {
  const file = openSync(path, 'r');
  try {
    const bytes = Buffer.alloc(8192);
    return bytes.toString('latin1', 0, readSync(file, bytes));
  } finally {
    closeSync(file);
  }
}
