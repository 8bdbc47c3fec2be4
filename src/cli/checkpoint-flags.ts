// Flags that name a checkpoint.

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { checkpointParents } from '../run/run-folder.js';
import { UsageError } from './arguments.js';

/** UsageError that names the flag, if the path is neither a checkpoint nor a run folder. */
export function checkCheckpoint(flag: string, path: string): void {
  if ([...checkpointParents(path), join(path, 'manifest.json')].some((part) => existsSync(part))) return;
  throw new UsageError(`${flag}: expected a checkpoint or a run folder, got ${JSON.stringify(path)}`);
}
