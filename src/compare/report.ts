// The results of a comparison, written into its folder: comparison.json, report.html and, with benchmarks, benchmarks.md.

import { basename, resolve } from 'node:path';
import { writePage } from '../report/page.js';
import { writeWhole } from '../run/run-folder.js';
import { benchmarkMarkdown } from './benchmark-table.js';
import { comparisonFiles } from './folder.js';
import { comparisonPage } from './page.js';
import { buildResult, type ComparisonResult, writeResult } from './result.js';

/** Writes all from what the folder holds so far, and returns what they say. Error where there is no comparison. */
export async function writeComparison(out: string): Promise<ComparisonResult> {
  const result = buildResult(out);
  writeResult(out, result);
  const files = comparisonFiles(out);
  const title = basename(resolve(out));
  if (result.benchmarks) writeWhole(files.benchmarks, benchmarkMarkdown(title, result));
  await writePage(files.report, comparisonPage(title, result));
  return result;
}
