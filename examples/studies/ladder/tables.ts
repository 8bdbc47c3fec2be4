// The study's results as Markdown tables, which docs/hadw.md contains unchanged.

import { digits, signed, type Table, table } from '../markdown.js';
import type { AdvantageScale } from './configuration.js';
import { labels, nameOf } from './methods.js';
import type { Cell, Difference, Learned, StudyResults } from './results.js';
import type { Interval, Mean } from './statistics.js';

const scaleTitles: Record<AdvantageScale, string> = { none: 'r − p̂', 'group-std': '(r − p̂) / std' };

export function tablesOf(results: StudyResults): Table[] {
  const { advantageScales } = results.configuration;
  return [
    ...advantageScales.map((scale) => answersTable(results, scale)),
    gradientTable(results),
    ...advantageScales.map((scale) => errorTable(results, scale)),
    ...advantageScales.map((scale) => bestTable(results, scale)),
    nearerTable(results),
    mixtureTable(results),
    anchorTable(results),
    ...advantageScales.map((scale) => methodTable(results, scale)),
    rungTable(results),
    scaleTable(results),
    placeTable(results),
    learningAnchorTable(results),
  ];
}

function withError({ mean, error }: Mean): string {
  return `${digits(mean, 4)} ± ${digits(error, 4)}`;
}

function withInterval({ mean, low, high }: Interval): string {
  return `${signed(mean, 4)} (${signed(low, 4)} … ${signed(high, 4)})`;
}

/** The cells of the study's own group size, with the level of its own mixture as the anchor. */
function ownCells({ cells, configuration: { learning } }: StudyResults, scale: AdvantageScale): Cell[] {
  return cells.filter((cell) => cell.scale === scale && cell.groupSize === learning.groupSize);
}

function heading({ configuration: { learning }, levels }: StudyResults): string {
  return `G = ${learning.groupSize}, anchor C = ${levels[learning.mixture]}`;
}

function answersTable(results: StudyResults, scale: AdvantageScale): Table {
  const { hadwScale, learning } = results.configuration;
  const columns = (answer: string) => [`${answer}: A`, 'E[Â]', 'E[Φ Â], λ = 1', `λ = ${hadwScale}`];
  return table(
    `What answers get, ${scaleTitles[scale]}, ${heading(results)}`,
    ['p', 'P(S)', ...columns('right'), ...columns('wrong')],
    ownCells(results, scale).map(({ p, truth, plain, hadw }) => {
      const weighted = hadw[learning.mixture];
      return [
        String(p),
        digits(plain.active, 3),
        ...(['right', 'wrong'] as const).flatMap((answer) =>
          [truth[answer], plain[answer], weighted[answer], hadwScale * weighted[answer]].map((a) => digits(a, 3)),
        ),
      ];
    }),
  );
}

function gradientTable(results: StudyResults): Table {
  const { advantageScales, hadwScale, rungs } = results.configuration;
  const levels = Object.entries(results.levels);
  return table(
    `The expected gradient over all groups, in units of the true one, G = ${results.configuration.learning.groupSize}, λ = ${hadwScale}`,
    [
      'p',
      ...advantageScales.flatMap((scale) => [scaleTitles[scale], ...levels.map(([, level]) => `HA-DW, C = ${level}`)]),
    ],
    rungs.map((p, rung) => [
      String(p),
      ...advantageScales.flatMap((scale) => {
        const { plain, hadw } = ownCells(results, scale)[rung];
        return [plain.gradient, ...levels.map(([name]) => hadwScale * hadw[name].gradient)].map((g) => digits(g, 3));
      }),
    ]),
  );
}

function errorTable({ cells, configuration, levels }: StudyResults, scale: AdvantageScale): Table {
  const { groupSizes, hadwScales, hadwScale, learning, rungs } = configuration;
  const shown = [1, hadwScale].map((lambda) => ({ lambda, index: hadwScales.indexOf(lambda) }));
  return table(
    `Root mean square distance from the true advantage, ${scaleTitles[scale]}, anchor C = ${levels[learning.mixture]}`,
    ['p', ...groupSizes.flatMap((g) => [`G = ${g}: Â`, ...shown.map(({ lambda }) => `Φ Â, λ = ${lambda}`)])],
    rungs.map((p) => [
      String(p),
      ...groupSizes.flatMap((g) => {
        const cell = cells.find((c) => c.scale === scale && c.groupSize === g && c.p === p)!;
        const { errors } = cell.hadw[learning.mixture];
        return [cell.plain.error, ...shown.map(({ index }) => errors[index])].map((e) => digits(e, 3));
      }),
    ]),
  );
}

function bestTable(results: StudyResults, scale: AdvantageScale): Table {
  const { learning } = results.configuration;
  const range = ([low, high]: readonly number[]) =>
    digits(low, 2) === digits(high, 2) ? 'none' : `${digits(low, 2)} … ${digits(high, 2)}`;
  return table(
    `Which λ, ${scaleTitles[scale]}, ${heading(results)}`,
    [
      'p',
      'right answers nearer',
      'wrong answers nearer',
      'no bias of right',
      'of wrong',
      'of the gradient',
      'least error',
      'its error',
      'Â’s error',
    ],
    ownCells(results, scale).map(({ p, plain, hadw }) => {
      const { nearer, best, bestError } = hadw[learning.mixture];
      return [
        String(p),
        range(nearer.right),
        range(nearer.wrong),
        ...[best.right, best.wrong, best.gradient, best.error].map((l) => digits(l, 2)),
        digits(bestError, 3),
        digits(plain.error, 3),
      ];
    }),
  );
}

function nearerTable({ cells, configuration, levels }: StudyResults): Table {
  const { advantageScales, groupSizes, hadwScales, rungs } = configuration;
  const all = 2 * rungs.length * Object.keys(levels).length;
  return table(
    `How many of ${all} advantages are nearer with HA-DW: those of right and of wrong answers, on each rung, at each level`,
    ['λ', ...advantageScales.flatMap((scale) => groupSizes.map((g) => `${scaleTitles[scale]}, G = ${g}`))],
    hadwScales.map((lambda) => [
      String(lambda),
      ...advantageScales.flatMap((scale) =>
        groupSizes.map((g) => {
          const ranges = cells
            .filter((cell) => cell.scale === scale && cell.groupSize === g)
            .flatMap(({ hadw }) => Object.values(hadw).flatMap(({ nearer }) => [nearer.right, nearer.wrong]));
          return String(ranges.filter(([low, high]) => low < lambda && lambda < high).length);
        }),
      ),
    ]),
  );
}

function mixtureTable({ batches, configuration, levels }: StudyResults): Table {
  const { hadwScale, hadwScales } = configuration;
  const index = hadwScales.indexOf(hadwScale);
  return table(
    `One λ for a whole batch, which has the anchor's level`,
    [
      'advantage',
      'C',
      'G',
      'error of Â',
      `of Φ Â, λ = ${hadwScale}`,
      'best λ of λ Â',
      'its error',
      'best λ of Φ Â',
      'its error',
      'for the gradient',
      'cosine of Â',
      'of Φ Â',
    ],
    batches.map(({ mixture, groupSize, scale, plain, plainBest, hadw, hadwBest }) => [
      scaleTitles[scale],
      String(levels[mixture]),
      String(groupSize),
      digits(plain.error, 3),
      digits(hadw[index].error, 3),
      digits(plainBest.lambda, 2),
      digits(plainBest.error, 3),
      digits(hadwBest.lambda, 2),
      digits(hadwBest.error, 3),
      digits(hadwBest.gradientLambda, 2),
      digits(plain.gradientCosine, 4),
      digits(hadwBest.gradientCosine, 4),
    ]),
  );
}

function anchorTable({ simulations, configuration, levels }: StudyResults): Table {
  const { groupSizes, mixtures, simulation } = configuration;
  return table(
    'Live anchors under a policy that does not change: standard deviation (mean − level)',
    ['anchor', 'C', ...groupSizes.map((g) => `G = ${g}`), 'largest distance, standard errors'],
    simulation.anchors.flatMap((anchor) =>
      Object.keys(mixtures).map((mixture) => {
        const own = simulations.filter((s) => s.anchor === anchor && s.mixture === mixture);
        return [
          anchor,
          String(levels[mixture]),
          ...groupSizes.map((g) => {
            const { anchorDeviation, anchorBias } = own.find((s) => s.groupSize === g)!;
            return `${digits(anchorDeviation, 4)} (${signed(anchorBias, 4)})`;
          }),
          digits(Math.max(...own.map((s) => s.largest)), 2),
        ];
      }),
    ),
  );
}

function find({ learning }: StudyResults, name: string): Learned {
  return learning.find((method) => method.name === name)!;
}

function differenceFrom(method: Learned, name: string): Difference | undefined {
  return method.differences.find((d) => d.with === name);
}

function differenceCell(method: Learned, name: string): string {
  const difference = differenceFrom(method, name);
  return difference ? withInterval(difference) : '';
}

function methodTable(results: StudyResults, scale: AdvantageScale): Table {
  const { learning, hadwScale } = results.configuration;
  const place = { mixture: learning.mixture, groupSize: learning.groupSize, scale };
  const doubled = Object.values(labels.doubled);
  const shown = [
    labels.plain,
    labels.leaveOneOut,
    labels.times(hadwScale),
    labels.sizeAlone(1),
    labels.hadw(1, learning.anchor),
    labels.sizeAlone(hadwScale),
    labels.hadw(hadwScale, learning.anchor),
    labels.truth.all,
    labels.truth.active,
    ...doubled,
  ];
  const first = find(results, nameOf(place, labels.plain));
  return table(
    `Learning, ${scaleTitles[scale]}, ${learning.seeds} seeds, ${learning.samplesPerPrompt} samples of a prompt`,
    [
      'method',
      'mean success over the run',
      'at its end',
      'against no weights (95 % interval)',
      ...first.toHalf.map(({ p }) => `samples to ½ from ${p}`),
    ],
    shown.map((label) => {
      const method = find(results, nameOf(place, label));
      return [
        label,
        withError(method.average),
        withError(method.final),
        differenceCell(method, first.name),
        ...method.toHalf.map(({ median, reached }) =>
          median === null
            ? `never (${reached} of ${learning.seeds})`
            : `${median}${reached < learning.seeds ? ` (${reached} of ${learning.seeds})` : ''}`,
        ),
      ];
    }),
  );
}

function rungTable(results: StudyResults): Table {
  const { advantageScales, learning, hadwScale, rungs } = results.configuration;
  const weighted = labels.hadw(hadwScale, learning.anchor);
  const pairs = [labels.plain, labels.times(hadwScale), labels.sizeAlone(hadwScale)];
  return table(
    `${weighted}, rung by rung: mean success over the run less that of another method`,
    ['advantage', 'less', ...rungs.map((p) => `p = ${p}`)],
    advantageScales.flatMap((scale) => {
      const place = { mixture: learning.mixture, groupSize: learning.groupSize, scale };
      const method = find(results, nameOf(place, weighted));
      return pairs.map((label) => [
        scaleTitles[scale],
        label,
        ...differenceFrom(method, nameOf(place, label))!.rungs.map(
          ({ mean, error }) => `${signed(mean, 3)} ± ${digits(error, 3)}`,
        ),
      ]);
    }),
  );
}

function scaleTable(results: StudyResults): Table {
  const { advantageScales, learning, hadwScales } = results.configuration;
  return table(
    'λ: mean success over the run with advantages × λ, with HA-DW, and the difference',
    ['λ', ...advantageScales.flatMap((scale) => [`${scaleTitles[scale]}: × λ`, 'HA-DW', 'difference'])],
    hadwScales.map((lambda) => [
      String(lambda),
      ...advantageScales.flatMap((scale) => {
        const place = { mixture: learning.mixture, groupSize: learning.groupSize, scale };
        const alone = find(results, nameOf(place, lambda === 1 ? labels.plain : labels.times(lambda)));
        const weighted = find(results, nameOf(place, labels.hadw(lambda, learning.anchor)));
        return [digits(alone.average.mean, 4), digits(weighted.average.mean, 4), differenceCell(weighted, alone.name)];
      }),
    ]),
  );
}

function placeTable(results: StudyResults): Table {
  const { advantageScales, groupSizes, hadwScale, learning, mixtures } = results.configuration;
  const places = [
    ...Object.keys(mixtures).map((mixture) => ({ mixture, groupSize: learning.groupSize })),
    ...groupSizes
      .filter((g) => g !== learning.groupSize)
      .map((groupSize) => ({ mixture: learning.mixture, groupSize })),
  ];
  const others = [labels.plain, labels.times(hadwScale), labels.sizeAlone(hadwScale)];
  return table(
    `Where ${labels.hadw(hadwScale, learning.anchor)} helps: mean success over the run less that of another method`,
    [
      'advantage',
      'starts at',
      'G',
      ...others.map((label) => `less ${label}`),
      'true advantages less no weights',
      `less ${labels.leaveOneOut}`,
    ],
    advantageScales.flatMap((scale) =>
      places.map((rest) => {
        const place = { ...rest, scale };
        const weighted = find(results, nameOf(place, labels.hadw(hadwScale, learning.anchor)));
        const plain = nameOf(place, labels.plain);
        const truth = find(results, nameOf(place, labels.truth.all));
        return [
          scaleTitles[scale],
          String(results.levels[place.mixture]),
          String(place.groupSize),
          ...others.map((label) => differenceCell(weighted, nameOf(place, label))),
          differenceCell(truth, plain),
          differenceCell(truth, nameOf(place, labels.leaveOneOut)),
        ];
      }),
    ),
  );
}

function learningAnchorTable(results: StudyResults): Table {
  const { advantageScales, anchors, hadwScale, learning } = results.configuration;
  return table(
    `Anchors while the policy learns: distance of C from the true level (root mean square), and mean success less that of ${learning.anchor}`,
    ['anchor', ...advantageScales.flatMap((scale) => [`${scaleTitles[scale]}: distance`, 'difference'])],
    Object.keys(anchors).map((anchor) => [
      anchor,
      ...advantageScales.flatMap((scale) => {
        const place = { mixture: learning.mixture, groupSize: learning.groupSize, scale };
        const method = find(results, nameOf(place, labels.hadw(hadwScale, anchor)));
        const standard = nameOf(place, labels.hadw(hadwScale, learning.anchor));
        return [withError(method.anchorError!), differenceCell(method, standard)];
      }),
    ]),
  );
}
