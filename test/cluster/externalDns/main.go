// What external-dns does with DNSEndpoint objects, with its own packages: its types read them, its plan compares them with what the zone has,
// its rfc2136 provider sends the difference. Its program does more (informers, registries, forty providers) and is not needed for that.
//
//	stdin: a list of DNSEndpoint objects, as `kubectl get -o json` prints it
//	stdout: what was done, such as {"create":1,"update":0,"delete":0}
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"

	"sigs.k8s.io/external-dns/apis/v1alpha1"
	"sigs.k8s.io/external-dns/endpoint"
	"sigs.k8s.io/external-dns/pkg/apis/externaldns"
	"sigs.k8s.io/external-dns/plan"
	"sigs.k8s.io/external-dns/provider/rfc2136"
)

func main() {
	host := flag.String("host", "127.0.0.1", "address of the primary")
	port := flag.Int("port", 53, "its port")
	zone := flag.String("zone", "example.com", "the zone")
	key := flag.String("key", "", "name of the TSIG key, hmac-sha256")
	secret := flag.String("secret", "", "its secret, in base64")
	flag.Parse()
	if err := run(*host, *port, *zone, *key, *secret); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(host string, port int, zone, key, secret string) error {
	wanted, err := endpoints()
	if err != nil {
		return err
	}
	ctx := context.Background()
	filter := endpoint.NewDomainFilter([]string{zone})
	config := &externaldns.Config{
		RFC2136Host:            []string{host},
		RFC2136Port:            port,
		RFC2136Zone:            []string{zone},
		RFC2136TSIGKeyName:     key,
		RFC2136TSIGSecret:      secret,
		RFC2136TSIGSecretAlg:   "hmac-sha256",
		RFC2136AXFR:            true,
		RFC2136BatchChangeSize: 50,
		Policy:                 "sync",
	}
	provider, err := rfc2136.New(ctx, config, filter)
	if err != nil {
		return err
	}
	current, err := provider.Records(ctx)
	if err != nil {
		return err
	}
	wanted, err = provider.AdjustEndpoints(wanted)
	if err != nil {
		return err
	}
	changes := (&plan.Plan{
		Policies:       []plan.Policy{&plan.SyncPolicy{}},
		Current:        current,
		Desired:        wanted,
		DomainFilter:   endpoint.MatchAllDomainFilters{filter},
		ManagedRecords: []string{endpoint.RecordTypeTXT},
	}).Calculate().Changes
	if changes.HasChanges() {
		if err := provider.ApplyChanges(ctx, changes); err != nil {
			return err
		}
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]int{
		"create": len(changes.Create), "update": len(changes.UpdateNew), "delete": len(changes.Delete),
	})
}

func endpoints() ([]*endpoint.Endpoint, error) {
	decoder := json.NewDecoder(os.Stdin)
	var list v1alpha1.DNSEndpointList
	if err := decoder.Decode(&list); err != nil {
		return nil, err
	}
	var all []*endpoint.Endpoint
	for _, item := range list.Items {
		for _, one := range item.Spec.Endpoints {
			if !one.CheckEndpoint() {
				return nil, fmt.Errorf("%s: external-dns does not take %v", item.Name, one)
			}
			all = append(all, one)
		}
	}
	return all, nil
}
