// `groupgrad report`: writes report.html of a run folder or of a comparison.

import { existsSync } from 'node:fs';
import { comparisonFiles } from '../compare/folder.js';
import { writeComparison } from '../compare/report.js';
import { writeReport } from '../report/run/index.js';
import { readRunConfig } from '../run/run-folder.js';
import { parse, UsageError } from './arguments.js';

export const help = `groupgrad report <folder>

  Writes report.html into a run folder: curves, configuration and samples on one page that needs no network. For the
  folder of a comparison, writes report.html and comparison.json from the results so far.
`;

export async function report(args: readonly string[]): Promise<void> {
  const { positionals } = parse(args, ['a run folder or the folder of a comparison'], {});
  const [folder] = positionals;
  const { plan, report: path } = comparisonFiles(folder);
  if (existsSync(plan)) {
    await writeComparison(folder);
    console.log(path);
    return;
  }
  if (readRunConfig(folder) === undefined) {
    throw new UsageError(
      `${folder}: expected a run folder or the folder of a comparison, got one without config.json and plan.json`,
    );
  }
  console.log(await writeReport(folder));
}
