// Writes the results of a comparison into its folder: comparison.json, report.html and, with benchmarks, benchmarks.md.

import { basename, resolve } from 'node:path';
import { writePage } from '../report/page.js';
import { writeWhole } from '../run/run-folder.js';
import { benchmarkMarkdown } from './benchmark-table.js';
import { comparisonFiles } from './folder.js';
import { comparisonPage } from './page.js';
import { buildResult, type ComparisonResult, writeResult } from './result.js';

/** Writes the files from the folder's current contents, and returns the results. Error if there is no comparison. */
export async function writeComparison(out: string): Promise<ComparisonResult> {
  const result = buildResult(out);
  writeResult(out, result);
  const files = comparisonFiles(out);
  const title = basename(resolve(out));
  if (result.benchmarks) writeWhole(files.benchmarks, benchmarkMarkdown(title, result));
  await writePage(files.report, comparisonPage(title, result));
  return result;
}
