// Parquet files, through hyparquet. It reads asynchronously and by row groups, but problems are needed synchronously, one at a time. A
// separate process therefore writes the rows to a temporary file with random access. Only that process loads hyparquet.

import { spawnSync } from 'node:child_process';
import { moduleFile } from '../base/package-folder.js';
import { SpoolFile } from './storage.js';

export interface SpooledRows {
  storage: SpoolFile;
  /** Length of each row in bytes, in order. */
  lengths: Uint32Array;
}

/** RangeError if the file is not a readable Parquet file. */
export function spoolParquet(path: string): SpooledRows {
  let lengths = new Uint32Array();
  const storage = new SpoolFile((spool) => {
    const { status, signal, stdout, stderr, error } = spawnSync(
      process.execPath,
      [...process.execArgv, moduleFile('data/parquet-process'), path, spool],
      { maxBuffer: Infinity, stdio: ['ignore', 'pipe', 'pipe'] },
    );
    if (error) throw error;
    if (status !== 0) {
      const reason = /^(?:\w*Error): (.*)$/m.exec(stderr.toString())?.[1] ?? stderr.toString().trim().slice(-500);
      throw new RangeError(`${path}: expected a readable Parquet file, got ${signal ?? reason}`);
    }
    // Copied, because the buffer may be an unaligned part of a pool.
    lengths = new Uint32Array(Uint8Array.from(stdout).buffer);
  });
  return { storage, lengths };
}
