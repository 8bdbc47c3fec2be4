// Runs a program to its end.

import { type SpawnSyncOptions, spawnSync } from 'node:child_process';

export interface Finished {
  status: number | null;
  stdout: string;
  stderr: string;
  /** Both streams, for messages. */
  output: string;
}

export function runProgram(command: string, args: readonly string[], options: SpawnSyncOptions = {}): Finished {
  const { status, stdout, stderr, error } = spawnSync(command, args, { ...options, encoding: 'utf8' });
  if (error) throw error;
  return { status, stdout, stderr, output: `${stdout}${stderr}` };
}
