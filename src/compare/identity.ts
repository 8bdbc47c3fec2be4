// The facts that the results of a comparison depend on, without local paths: comparison.json and the page may be shared.

import { basename } from 'node:path';

/** A copy in which data files, which are identified by their hash, are named without their folders. */
export function withoutFolders<T>(identity: T): T {
  return JSON.parse(
    JSON.stringify(identity, (_, part: unknown) =>
      isDataFile(part)
        ? {
            ...part,
            file: part.file
              .split(', ')
              .map((path) => basename(path))
              .join(', '),
          }
        : part,
    ),
  ) as T;
}

function isDataFile(value: unknown): value is { file: string; sha256: string } {
  return typeof value === 'object' && value !== null && 'sha256' in value && 'file' in value;
}

/** A policy's description with the names of its folders only: each run identifies their contents by hash. */
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
