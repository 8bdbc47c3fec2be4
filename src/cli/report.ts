// `groupgrad report`: report.html of a run folder.

import { writeReport } from '../trainer/report/index.js';
import { readRunConfig } from '../trainer/run-folder.js';
import { parse } from './arguments.js';

export const help = `groupgrad report <run>

  Writes report.html into a run folder: curves, configuration and samples on one page that needs no network.
`;

export async function report(args: readonly string[]): Promise<void> {
  const { positionals } = parse(args, ['a run folder'], {});
  const [runDir] = positionals;
  if (readRunConfig(runDir) === undefined)
    throw new Error(`${runDir}: expected a run folder, got one without a config.json`);
  console.log(await writeReport(runDir));
}
