// A process of its own that turns a Parquet file into rows that can be read from the middle: each as V8 serialises it, which keeps
// bigints, dates and bytes. Arguments: the Parquet file and the file to write. Standard output: the lengths of the rows, as unsigned
// 32-bit integers of the machine.

import fs from 'node:fs';
import { serialize } from 'node:v8';
import { type AsyncBuffer, parquetMetadataAsync, parquetReadObjects } from 'hyparquet';
import { compressors } from 'hyparquet-compressors';

const [source, target] = process.argv.slice(2);

/** The file system's file as hyparquet reads it. */
function asyncBuffer(path: string): AsyncBuffer {
  const file = fs.openSync(path, 'r');
  const byteLength = fs.fstatSync(file).size;
  return {
    byteLength,
    slice(start, end = byteLength) {
      const bytes = new Uint8Array(end - start);
      for (let done = 0; done < bytes.length; ) {
        const count = fs.readSync(file, bytes, done, bytes.length - done, start + done);
        if (count === 0) throw new Error('the file has become shorter');
        done += count;
      }
      return bytes.buffer;
    },
  };
}

/** Text that is no UTF-8 is an error, as in the other formats. */
const decoder = new TextDecoder('utf-8', { fatal: true });
const parsers = { stringFromBytes: (bytes: Uint8Array | undefined) => bytes && decoder.decode(bytes) };

const file = asyncBuffer(source);
const metadata = await parquetMetadataAsync(file, { parsers });
const out = fs.openSync(target, 'w');
let first = 0;
for (const { num_rows: count } of metadata.row_groups) {
  const next = first + Number(count);
  // One row group at a time: they are what a Parquet file is read by.
  const rows = await parquetReadObjects({ file, metadata, compressors, parsers, rowStart: first, rowEnd: next });
  const lengths = new Uint32Array(rows.length);
  for (const [i, row] of rows.entries()) {
    const bytes = serialize(row);
    for (let done = 0; done < bytes.length; ) done += fs.writeSync(out, bytes, done);
    lengths[i] = bytes.length;
  }
  const bytes = new Uint8Array(lengths.buffer);
  for (let done = 0; done < bytes.length; ) done += fs.writeSync(1, bytes, done);
  first = next;
}
fs.closeSync(out);
