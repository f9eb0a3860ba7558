/**
 * The gateway as one of a cluster's: joins what the cluster says (source.ts) with the parts of the gateway that it is about.
 *
 *   source ──assertions, policy, peers──► mapper, policy table, peers
 *          └─network──► refusal, placement (both pure) ──► pools of the mapper, routing of the resolver, routes of the node
 *
 * What keeps the gateway from work is said in one place each: `unready` for /readyz and the condition Ready, `problems` for `ipref status`.
 * Decides nothing itself; the only one here that knows more than one of the parts. Main thread.
 */
import { join } from 'node:path'
import { type AddressWords, type Prefix, parsePrefix } from '../../ipref/address.ts'
import type { Network, NetworkGateway } from '../../resources/network.ts'
import type { ResourceStore } from '../../resources/store.ts'
import { systemClock } from '../../runtime/clock.ts'
import type { Logger } from '../../runtime/log.ts'
import { noRouting, type Routing } from '../dns/routes.ts'
import { slice } from '../mapper/allocate.ts'
import type { Mapper } from '../mapper/mapper.ts'
import type { NamedPeer, Peers } from '../peers/peers.ts'
import type { PolicyTable } from '../plane/policyTable.ts'
import type { Carried, Domain } from './assertions.ts'
import { routingOf } from './domains.ts'
import type { KubeConfig } from './kubeOptions.ts'
import { renderKubeMetrics } from './kubeReports.ts'
import { isForbidden, type Refusal, refusalOf, released, releasing, waiting } from './network.ts'
import type { Sample } from './nodeForward.ts'
import { type NodeNetwork, samplesOf } from './nodeNetwork.ts'
import type { NodeNetworkWanted } from './nodeTypes.ts'
import { type OpenedStore, openStore } from './openStore.ts'
import { carrierOf, type Placement, placementOf } from './placement.ts'
import type { Observation } from './report.ts'
import { KubeSource } from './source.ts'
import { Uplink } from './uplink.ts'
import type { UplinkStore } from './uplinkStore.ts'

const NODE_CHECK_MS = 1000
const LEAVE_AGAIN_MS = 5000

export interface KubeHostSettings {
  kube: KubeConfig
  dataFolder: string
  encodingNetworks: readonly Prefix[]
  tunnelFamilies: readonly (4 | 6)[]
  /** of a gateway that makes its own IprefGateway */
  publicAddresses: readonly string[]
  tunName: string
  tunnelPort: number
  /** of resolvers of gateways: ours, and so that of others */
  resolverPort: number
}

export interface KubeHostPorts {
  log: Logger
  mapper: Mapper
  /** the mapper's store */
  mappings: UplinkStore
  /** Resolves when all that was saved is on disk. */
  durable(): Promise<void>
  policy: PolicyTable
  peers: Peers
  /** undefined: no packets, so no node network */
  nodeNetwork: NodeNetwork | undefined
  /** Public addresses of this gateway, as the cluster knows them. */
  setContexts(published: readonly string[]): void
  /** Answers and questions of the resolver go this way from now on. */
  setRouting(routing: Routing): void
  /** Encoded addresses that the resolver has given out are void. */
  forgetMappings(): void
  /** Does the encoding network lead to the TUN device? */
  setCarrying(isCarrying: boolean): void
  observe(): Omit<Observation, 'nodeNetwork' | 'refusal'>
}

export class KubeHost {
  readonly #settings: KubeHostSettings
  readonly #ports: KubeHostPorts
  readonly #log: Logger
  readonly #store: ResourceStore
  readonly #prepare: OpenedStore['prepare']
  readonly #source: KubeSource
  readonly #uplink: Uplink
  #refusal: Refusal | undefined = waiting
  #placement: Placement | undefined
  #network: Network | undefined
  #carried: readonly Carried[] = []
  #domains: readonly Domain[] = []
  #peers: readonly NamedPeer[] = []
  #routingProblems: readonly string[] = []
  #nodeProblems: readonly string[] | undefined
  #nodeCheck: NodeJS.Timeout | undefined
  #leaving: Promise<void> = Promise.resolve()
  #leaveAgain: NodeJS.Timeout | undefined
  #isStarted = false
  #ended: Promise<void> | undefined
  routing: Routing = noRouting

  /** Rejects with a sentence for the person who started it. What was in force at the last end is in force again. */
  static async open(settings: KubeHostSettings, ports: KubeHostPorts): Promise<KubeHost> {
    const host = new KubeHost(settings, ports, await openStore(settings.kube, ports.log))
    try {
      await host.#source.restore()
    } catch (error) {
      await host.stop()
      throw error
    }
    return host
  }

  private constructor(settings: KubeHostSettings, ports: KubeHostPorts, { store, prepare }: OpenedStore) {
    this.#settings = settings
    this.#ports = ports
    this.#store = store
    this.#prepare = prepare
    this.#log = ports.log.child({ component: 'kube' })
    const { kube, dataFolder, tunnelFamilies, publicAddresses } = settings
    // what is nobody's to give before the operator has cut the network
    if (!kube.isAlone) ports.mapper.setAllocating(false)
    this.#uplink = new Uplink(
      {
        name: kube.name,
        namespace: kube.namespace,
        port: kube.uplinkPort,
        stateFile: join(dataFolder, 'uplink.json'),
      },
      {
        store,
        log: ports.log,
        mapper: ports.mapper,
        mappings: ports.mappings,
        peers: ports.peers,
        durable: ports.durable,
        onHolder: () => this.#place(),
      },
    )
    this.#source = new KubeSource(
      {
        name: kube.name,
        namespace: kube.namespace,
        stateFile: join(dataFolder, 'cluster.json'),
        tunnelFamilies,
        // without -gateway-pub the settings of the platform say it, or nobody knows
        ...(kube.isAlone ? { own: publicAddresses.length > 0 ? { publicAddresses: [...publicAddresses] } : {} } : {}),
      },
      {
        store,
        clock: systemClock,
        log: ports.log,
        random: Math.random,
        setAssertions: assertions => ports.mapper.setSource('crd', isForbidden(this.#refusal) ? [] : assertions),
        setPolicy: policy => ports.policy.write(policy),
        setPeers: peers => {
          this.#peers = peers
          this.#placePeers()
        },
        setNetwork: (network, self, carried) => this.#setNetwork(network, self, carried),
        setDomains: domains => {
          this.#domains = domains
          this.#placeNames()
        },
        observe: () => ({ ...ports.observe(), nodeNetwork: this.#nodeProblems, refusal: this.#refusal }),
        onReleased: () => this.#release(),
      },
    )
  }

  /** Once packets can flow; before `start`. Rejects with a sentence for the person who started it. */
  prepare(): Promise<void> {
    return this.#prepare()
  }

  start(): void {
    this.#isStarted = true
    this.#placeNode()
    this.#uplink.start()
    this.#source.start()
  }

  // ---- what the cluster says

  #setNetwork(network: Network, self: NetworkGateway | undefined, carried: readonly Carried[]): void {
    this.#network = network
    this.#carried = carried
    this.#ports.setContexts(self?.publicAddresses ?? [])
    this.#refuse(refusalOf(network, self, this.#settings))
    this.#uplink.setNetwork(isForbidden(this.#refusal) ? undefined : network)
    this.#place()
  }

  #refuse(refusal: Refusal | undefined): void {
    if (refusal && refusal.reason !== this.#refusal?.reason)
      this.#log.error({ reason: refusal.reason }, refusal.message)
    this.#refusal = refusal
  }

  #place(): void {
    const network = this.#network
    if (!network) return
    const { mapper, setCarrying, forgetMappings } = this.#ports
    const isRefused = isForbidden(this.#refusal)
    const before = this.#placement
    const { holder } = this.#uplink
    this.#placement = placementOf({ network, name: this.#settings.kube.name, isRefused, holder })
    const { role, pools, allocates } = this.#placement
    if (role !== before?.role) this.#log.info({ role }, 'place among the gateways')
    mapper.setPools(pools.flatMap(text => parsePrefix(text) ?? []).map(slice))
    mapper.setAllocating(allocates)
    if (before?.pools.some(pool => !pools.includes(pool))) forgetMappings()
    this.#uplink.setActive(role === 'active')
    // a node of a cluster that has no gateway leads packets to those of others
    const isElsewhere =
      network.nodes !== undefined && !network.gateways.some(one => one.name === this.#settings.kube.name)
    setCarrying(!isRefused && !isElsewhere)
    this.#placePeers()
    if (role === 'active' && before?.role !== role) this.#ports.peers.announce()
    if (role !== 'active' && before?.role === 'active') this.#ports.peers.hush()
    this.#placeNames()
    this.#placeNode()
  }

  // one that does not carry packets is silent, lest peers take its port for that of the one that does
  #placePeers(): void {
    this.#ports.peers.setNamed(this.silence === undefined ? this.#peers : [])
  }

  #placeNames(): void {
    if (!this.#network || !this.#placement) return
    const { routing, problems } = routingOf({
      network: this.#network,
      domains: this.#domains,
      above: this.#placement.above,
      resolverPort: this.#settings.resolverPort,
    })
    this.#routingProblems = problems
    this.routing = routing
    this.#ports.setRouting(routing)
  }

  // ---- the node

  #placeNode(): void {
    const { nodeNetwork } = this.#ports
    if (!nodeNetwork || !this.#isStarted || !this.#network) return
    if (isForbidden(this.#refusal)) return this.#leaveNode(nodeNetwork)
    const wanted = this.#nodeWanted(this.#network)
    if (!wanted) return
    void nodeNetwork.apply(wanted).then(report => this.#tell(report))
    this.#nodeCheck ??= setInterval(() => void nodeNetwork.check().then(report => this.#tell(report)), NODE_CHECK_MS)
  }

  #leaveNode(nodeNetwork: NodeNetwork): void {
    clearInterval(this.#nodeCheck)
    this.#nodeCheck = undefined
    this.#leaving = nodeNetwork.remove().then(problems => {
      this.#nodeProblems = problems.length > 0 ? problems : undefined
    })
  }

  #tell({ problems, changes }: { problems: readonly string[]; changes: readonly string[] }): void {
    if (!this.#nodeCheck) return
    for (const problem of problems) if (!this.#nodeProblems?.includes(problem)) this.#log.warn(problem)
    for (const change of changes) this.#log.info({ change }, 'node network changed')
    this.#nodeProblems = problems
  }

  /** undefined: outside Kubernetes, where nobody says what nodes there are. */
  #nodeWanted(network: Network): NodeNetworkWanted | undefined {
    const { kube, tunName, tunnelPort } = this.#settings
    const self = network.gateways.find(gateway => gateway.name === kube.name)
    const own = network.nodes?.find(node => node.name === (self?.nodeName ?? kube.name))
    if (!own) return undefined
    const nodes = network.nodes ?? []
    const isPerNode = network.uplink === 'perNode'
    return {
      encodingNetworks: network.encodingNetworks,
      own: { nodeName: own.name, nodeAddresses: own.addresses, slices: self?.slices ?? [] },
      gateways: network.gateways.flatMap(({ name, nodeName, nodeAddresses, slices }) => {
        if (nodeName === undefined) return []
        const statics = this.#carried.filter(one => isPerNode && one.gateway === name).flatMap(one => one.networks)
        return [{ name, nodeName, nodeAddresses, slices, statics }]
      }),
      nodes: nodes.map(({ name: nodeName, addresses: nodeAddresses, podNetworks }) => ({
        nodeName,
        nodeAddresses,
        podNetworks,
      })),
      active: this.#placement?.active,
      mode: network.nodeNetwork,
      tun: self ? tunName : undefined,
      tunnelPort,
      uplinkPort: kube.uplinkPort,
      podNetworks: [...new Set([...network.podNetworks, ...nodes.flatMap(node => node.podNetworks)])],
      serviceNetworks: network.serviceNetworks,
    }
  }

  // ---- the end, or nearly

  /** Back to work when the object is there again. */
  #release(): void {
    if (this.isReleased) return
    this.#refuse(releasing)
    this.#uplink.setNetwork(undefined)
    const emptied = this.#ports.mapper.setSource('crd', [])
    this.#place()
    void emptied
      .then(() => this.#leaving)
      .then(() => this.#leave())
      .catch(error => this.#log.error({ error: (error as Error).message }, 'mappings could not be taken away'))
  }

  // the operator lets the object go when the node is clean, and after a time in any case
  #leave(): void {
    if (this.#refusal !== releasing) return
    if (this.#nodeProblems === undefined) {
      this.#refusal = released
      this.#log.info(released.message)
      return
    }
    this.#leaveAgain = setTimeout(() => {
      if (this.#refusal !== releasing) return
      this.#leaveNode(this.#ports.nodeNetwork!)
      void this.#leaving.then(() => this.#leave())
    }, LEAVE_AGAIN_MS)
  }

  /** The node is to be left as it was. */
  get isReleased(): boolean {
    return this.#refusal === released || this.#refusal === releasing
  }

  /** Why the gateway does not do its whole work. */
  get unready(): string[] {
    return [...(this.#refusal ? [this.#refusal.message] : []), ...(this.#nodeProblems ?? [])]
  }

  get problems(): string[] {
    return [...this.unready, ...this.#uplink.problems, ...this.#source.problems, ...this.#routingProblems]
  }

  carrierOf(address: Uint8Array): string | undefined {
    if (!this.#network || !this.#placement) return undefined
    return carrierOf(address, { network: this.#network, name: this.#settings.kube.name, placement: this.#placement })
  }

  /** What FORWARD of this node is asked about; undefined: outside Kubernetes. */
  get forwardSamples(): readonly Sample[] | undefined {
    const wanted = this.#network && this.#nodeWanted(this.#network)
    return wanted && samplesOf(wanted)
  }

  /** Why nothing is to be sent to peers from here; undefined: it may be. */
  get silence(): string | undefined {
    const { role, active } = this.#placement ?? {}
    if (role === 'own' || role === 'active') return undefined
    return active === undefined
      ? 'this gateway carries no packets'
      : `gateway ${active} carries the packets of this cluster`
  }

  /** The port that an IprefPeer says; undefined: none says it. */
  portOf(context: AddressWords): number | undefined {
    return this.#peers.find(({ address }) => address.every((word, i) => word === context[i]))?.port
  }

  metrics(): string {
    return renderKubeMetrics(this.#uplink.counts())
  }

  /** For `ipref status`; undefined: nothing that is not ordinary. */
  describeUplink(): string | undefined {
    return this.#uplink.describe()
  }

  /** Safe to repeat. */
  stop(): Promise<void> {
    this.#ended ??= this.#stop()
    return this.#ended
  }

  async #stop(): Promise<void> {
    clearInterval(this.#nodeCheck)
    clearTimeout(this.#leaveAgain)
    this.#ports.nodeNetwork?.stop()
    await this.#uplink.stop()
    await this.#source.stop()
    await this.#store.close()
  }
}
