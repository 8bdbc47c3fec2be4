// The methods of learning that the study compares, and their comparisons.

import type { AdvantageScale, StudyConfiguration } from './configuration.js';
import type { Method } from './learning.js';

/** A method and the names of those that it is compared with, the first of which is its baseline. */
export interface ComparedMethod extends Method {
  against: string[];
}

export function methodsOf(config: StudyConfiguration): ComparedMethod[] {
  return config.advantageScales.flatMap((scale) => [
    ...mainMethods(config, scale),
    ...Object.keys(config.mixtures)
      .filter((mixture) => mixture !== config.learning.mixture)
      .flatMap((mixture) => controlled(config, { mixture, groupSize: config.learning.groupSize, scale })),
    ...config.groupSizes
      .filter((groupSize) => groupSize !== config.learning.groupSize)
      .flatMap((groupSize) => controlled(config, { mixture: config.learning.mixture, groupSize, scale })),
  ]);
}

type Place = Pick<Method, 'mixture' | 'groupSize' | 'scale'>;

/** The labels that identify methods at a place. */
export const labels = {
  plain: 'no weights',
  leaveOneOut: 'leave-one-out',
  times: (factor: number) => `× ${factor}`,
  hadw: (scale: number, anchor: string) => `HA-DW ${scale}, ${anchor}`,
  sizeAlone: (scale: number) => `size of HA-DW ${scale}`,
  truth: { all: 'true advantages', active: 'true advantages, active groups' },
  doubled: {
    sameRate: 'twice G',
    twiceRate: 'twice G, twice the rate',
    twiceSamples: 'twice G, twice the samples',
  },
} as const;

export function nameOf({ mixture, groupSize, scale }: Place, label: string): string {
  return `${mixture}, G = ${groupSize}, ${scale}: ${label}`;
}

/** HA-DW with λ = 1 and with its default, with controls. */
function controlled(config: StudyConfiguration, place: Place): ComparedMethod[] {
  const { hadwScale, learning } = config;
  const plain = nameOf(place, labels.plain);
  const weighted = (scale: number, label: string, rest: Partial<Method>, ...against: string[]): ComparedMethod => ({
    name: nameOf(place, label),
    ...place,
    hadw: { scale, anchor: learning.anchor },
    ...rest,
    against: [plain, ...against.map((other) => nameOf(place, other))],
  });
  return [
    { name: plain, ...place, against: [] },
    { name: nameOf(place, labels.leaveOneOut), ...place, center: 'leave-one-out', against: [plain] },
    times(place, hadwScale),
    weighted(1, labels.sizeAlone(1), { sizeAlone: true }),
    weighted(1, labels.hadw(1, learning.anchor), {}, labels.sizeAlone(1)),
    weighted(hadwScale, labels.sizeAlone(hadwScale), { sizeAlone: true }),
    weighted(
      hadwScale,
      labels.hadw(hadwScale, learning.anchor),
      {},
      labels.times(hadwScale),
      labels.sizeAlone(hadwScale),
    ),
    ...(['all', 'active'] as const).map((truth) => ({
      name: nameOf(place, labels.truth[truth]),
      ...place,
      truth,
      against: [plain, nameOf(place, labels.leaveOneOut)],
    })),
  ];
}

function times(place: Place, factor: number): ComparedMethod {
  return { name: nameOf(place, labels.times(factor)), ...place, factor, against: [nameOf(place, labels.plain)] };
}

/** With the study's own group size and mixture: every λ, every anchor, and twice the group size as well. */
function mainMethods(config: StudyConfiguration, scale: AdvantageScale): ComparedMethod[] {
  const { hadwScale, hadwScales, anchors, learning } = config;
  const place: Place = { mixture: learning.mixture, groupSize: learning.groupSize, scale };
  const plain = nameOf(place, labels.plain);
  const standard = nameOf(place, labels.hadw(hadwScale, learning.anchor));
  const otherScales = hadwScales.filter((factor) => factor !== 1 && factor !== hadwScale);
  const doubled = { ...place, groupSize: 2 * place.groupSize, against: [plain, standard] };
  return [
    ...controlled(config, place),
    ...otherScales.flatMap((factor) => [
      times(place, factor),
      {
        name: nameOf(place, labels.hadw(factor, learning.anchor)),
        ...place,
        hadw: { scale: factor, anchor: learning.anchor },
        against: [plain, nameOf(place, labels.times(factor))],
      },
    ]),
    ...Object.keys(anchors)
      .filter((anchor) => anchor !== learning.anchor)
      .map((anchor) => ({
        name: nameOf(place, labels.hadw(hadwScale, anchor)),
        ...place,
        hadw: { scale: hadwScale, anchor },
        against: [plain, standard],
      })),
    { ...doubled, name: nameOf(place, labels.doubled.sameRate) },
    { ...doubled, name: nameOf(place, labels.doubled.twiceRate), factor: 2 },
    { ...doubled, name: nameOf(place, labels.doubled.twiceSamples), samples: 2 },
  ];
}
