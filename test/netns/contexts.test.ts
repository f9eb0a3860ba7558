/**
 * A gateway whose public address only the cluster knows: source contexts on the wire, contexts that are not ours, and our own references, while objects
 * change, without the cluster, and beside `-gateway-pub`.
 *
 *   host, other ── gw-a ── internet ── gw-b ── far
 *                  198.51.100.1         198.51.100.2
 *                  objects from a folder
 */
import { mkdirSync, renameSync } from 'node:fs'
import { DirectoryStore } from '../../resources/directoryStore.ts'
import { formatNetwork, NETWORK_KEY, NETWORK_NAME } from '../../resources/network.ts'
import { type Checks, expectSame } from '../support/checks.ts'
import { network } from '../support/clusterBuilders.ts'
import { eventually, type Lab, type Namespace, openLab } from '../support/netns.ts'
import { joinInternet, Network } from '../support/networks.ts'
import { expectNoPing, ping } from '../support/probes.ts'
import { packetsWith, watchContexts } from '../support/wireContexts.ts'

const [A, B, WRONG, UNKNOWN] = ['198.51.100.1', '198.51.100.2', '203.0.113.77', '0.0.0.0']
const QUIET = ['-metrics-address', 'off', '-health-address', 'off'] as const
const FAR = '10.176.0.9'
/** `other`, by our own context and its reference */
const OURS = '10.176.0.8'
const PATIENCE = { withinMs: 60_000, everyMs: 200 }

export async function run(checks: Checks): Promise<void> {
  const lab = await openLab()
  const world = new World(lab)
  try {
    await world.build()
    await checkAll(checks, world)
  } finally {
    await world.operator?.close()
    await lab.close()
  }
}

class World {
  readonly #lab: Lab
  a!: Network
  b!: Network
  operator: DirectoryStore | undefined
  readonly flags: string[]

  constructor(lab: Lab) {
    this.#lab = lab
    this.flags = [
      '-gateway-bind',
      A,
      '-encode-net',
      '10.176.0.0/12',
      '-manifests',
      this.#folder,
      '-node',
      'node-a',
      ...QUIET,
    ]
  }

  get #folder(): string {
    return this.#lab.file('objects')
  }

  async build(): Promise<void> {
    const lab = this.#lab
    mkdirSync(this.#folder)
    this.operator = await DirectoryStore.open(this.#folder)
    await this.say([])
    const internet = await lab.add('internet', { forwards: true })
    this.a = await Network.build(lab, {
      name: 'a',
      lan: ['10.1.0.1/24'],
      hosts: { host: ['10.1.0.10/24'], other: ['10.1.0.20/24'] },
      mappings: [
        '10.1.0.10 host #= pub + 11',
        '10.1.0.20 other #= pub + 12',
        `${FAR} far #= ext ${B} + 11`,
        `${OURS} ours #= ext ${A} + 12`,
      ],
      flags: this.flags,
    })
    this.b = await Network.build(lab, {
      name: 'b',
      lan: ['10.1.0.1/24'],
      hosts: { far: ['10.1.0.10/24'] },
      mappings: ['10.1.0.10 far #= pub + 11'],
      flags: ['-gateway', B, '-encode-net', '10.240.0.0/12', ...QUIET],
    })
    await joinInternet(lab, this.a, internet, { gateway: [`${A}/31`], router: ['198.51.100.0/31'] })
    await joinInternet(lab, this.b, internet, { gateway: [`${B}/31`], router: ['198.51.100.3/31'] })
    await watchContexts(this.b.gateway, [A, WRONG, UNKNOWN])
    this.a.startGateway()
    this.b.startGateway()
    await this.b.ready()
  }

  /** What the operator would say after it looked at the objects of the gateway and its node. */
  async say(publicAddresses: string[]): Promise<void> {
    const gateways = [{ name: 'node-a', nodeAddresses: [A], slices: ['10.177.0.0/18'], publicAddresses, publish: true }]
    await this.operator!.apply('ConfigMap', {
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { namespace: 'ipref', name: NETWORK_NAME },
      data: { [NETWORK_KEY]: formatNetwork(network({ gateways })) },
    })
  }

  async restart(): Promise<void> {
    await this.a.stopGateway('SIGKILL')
    this.a.startGateway()
    await eventually('gateway a is back', async () => (await this.a.status()).mappings.counts.hosts === 4, PATIENCE)
  }

  /** The cluster is away, and whoever starts now finds nothing. */
  async hide(): Promise<void> {
    await this.operator!.close()
    this.operator = undefined
    renameSync(this.#folder, `${this.#folder}-away`)
    mkdirSync(this.#folder)
  }

  async comeBack(): Promise<void> {
    this.operator = await DirectoryStore.open(this.#folder)
  }

  /** Resolves when this is the gateway's own address, as far as it knows. */
  async knows(...contexts: string[]): Promise<void> {
    const look = async () => (await this.a.status()).contexts.join() === contexts.join()
    await eventually(`gateway a knows its address as ${contexts.join() || 'unknown'}`, look, PATIENCE)
  }
}

/** Source contexts that arrive while this runs. */
async function arriving(at: Namespace, during: () => Promise<unknown>): Promise<string> {
  const contexts = [A, WRONG, UNKNOWN]
  const counts = () => Promise.all(contexts.map(context => packetsWith(at, context)))
  const before = await counts()
  await during()
  const after = await counts()
  return contexts.filter((_context, i) => after[i]! > before[i]!).join()
}

async function refused({ a }: World, reason: string): Promise<number> {
  return (await a.status()).traffic!.decap.refused[reason] ?? 0
}

// from a port of its own, so that the gateway there is not asked to explain it
const FOREIGN = `
const packet = Buffer.from('1040400600000000cb00714d0000000b000000630102030405060708090a0b0c0d0e0f1011121314', 'hex')
const socket = require('node:dgram').createSocket('udp4')
socket.send(packet, 1045, '${A}', () => socket.close())`

async function checkAll(checks: Checks, world: World): Promise<void> {
  const { a, b, flags } = world
  const host = a.host('host')
  const sendForeign = () => b.gateway.require([process.execPath, '-e', FOREIGN])
  const pingFar = () => ping(host, FAR)
  const turnsAround = async () => {
    await ping(host, OURS)
    const peers = (await a.status()).peers.filter(({ address, mappings }) => address === A && mappings > 0)
    expectSame('mappings of ourselves as a peer', peers.length, 0)
    return undefined
  }
  const isPeer = async () => {
    const peers = (await a.status()).peers.filter(({ address, mappings }) => address === A && mappings > 0)
    expectSame('mappings to our own address, by a peer', peers.length, 1)
  }
  await checks.check('nobody knows the address: zeros, and any context is taken as ours', async () => {
    await a.ready()
    await world.knows()
    await isPeer()
    // answers to probes carry what the prober said: let it be done with them
    await pingFar()
    const isProved = async () => (await b.status()).peers.some(({ address, verified }) => address === A && verified)
    await eventually('gateway b has proved it', isProved, PATIENCE)
    expectSame('on the wire', await arriving(b.gateway, pingFar), UNKNOWN)
    await sendForeign()
    const isAnswered = async () => (await a.status()).traffic!.decap.answered > 0
    await eventually('it is told that nobody has the reference', isAnswered, PATIENCE)
    expectSame('refused', await refused(world, 'destination_context_foreign'), 0)
    return undefined
  })
  await checks.check('the cluster knows it: it is on the wire, without a restart', async () => {
    await world.say([A])
    await world.knows(A)
    expectSame('on the wire', await arriving(b.gateway, pingFar), A)
    return undefined
  })
  await checks.check('a packet to the context of somebody else is refused', async () => {
    await sendForeign()
    const isRefused = async () => (await refused(world, 'destination_context_foreign')) > 0
    await eventually('it is refused', isRefused, PATIENCE)
    return undefined
  })
  await checks.check('what is for a host of ours turns around here', turnsAround)
  await checks.check('the same after kill -9 and a start without the cluster', async () => {
    await world.hide()
    await world.restart()
    await world.knows(A)
    expectSame('on the wire', await arriving(b.gateway, pingFar), A)
    await turnsAround()
    await world.comeBack()
    return undefined
  })
  await checks.check(
    'another address is on the wire when the object says so, and peers refuse what is not true',
    async () => {
      await world.say([WRONG])
      await world.knows(WRONG)
      expectSame('on the wire', await arriving(b.gateway, () => expectNoPing(host, FAR)), WRONG)
      await isPeer()
      return undefined
    },
  )
  await checks.check('taken away: zeros again, and packets flow', async () => {
    await world.say([])
    await world.knows()
    expectSame('on the wire', await arriving(b.gateway, pingFar), UNKNOWN)
    return undefined
  })
  await checks.check('-gateway-pub wins, and the difference is named', async () => {
    await world.say([WRONG])
    flags.push('-gateway-pub', A)
    await world.restart()
    await world.knows(A)
    expectSame('on the wire', await arriving(b.gateway, pingFar), A)
    const isNamed = async () => (await a.status()).problems.some(problem => problem.includes(WRONG))
    await eventually('it is named', isNamed, PATIENCE)
    await world.say([A])
    await eventually('nothing is named any more', async () => (await a.status()).problems.length === 0, PATIENCE)
    return undefined
  })
}
