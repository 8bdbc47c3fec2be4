// What results of a comparison depend on, without the folders of the machine: comparison.json and the page may be passed on.

import { basename } from 'node:path';
import { type Identity, identifyTask } from '../run/drift.js';
import type { Problems } from '../tasks/task.js';

/** As `identifyTask`, with the names of files alone: what is in them is known by their hash. */
export function identifyProblems(task: Problems, used?: number): Identity {
  const { source, ...identity } = identifyTask(task, used);
  if (source === undefined) return identity;
  const { file } = source;
  const name = typeof file === 'string' ? file.split(', ').map((path) => basename(path)) : undefined;
  return { ...identity, source: name ? { ...source, file: name.join(', ') } : source };
}

/** A policy's description, with the names of its folders alone: each run knows what is in them by their hash. */
export function identifyPolicy(policy: unknown): unknown {
  if (typeof policy === 'function') return 'made by a function';
  if (typeof policy !== 'object' || policy === null) return {};
  return Object.fromEntries(
    Object.entries(policy).map(([name, value]) => [
      name,
      (name === 'model' || name === 'adapter') && typeof value === 'string' ? basename(value) : value,
    ]),
  );
}
