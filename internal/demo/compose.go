package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"coffer/policy"
)

// ComposeConfig says where the containers' file is and what is told.
type ComposeConfig struct {
	File string    // docker-compose.yml
	Keep bool      // leave the cluster up until the context ends
	Talk io.Writer // progress, for people
	// Done is called with the result as soon as the story has ended.
	Done func(*Result) error
}

const (
	demoImage    = "coffer/demo:local"
	smallAmount  = "0.1"
	upWithin     = 3 * time.Minute
	healthWithin = time.Minute
	downWithin   = time.Minute
)

// Compose plays the demo in containers, and then what a machine of one's own cannot
// show: a signer whose container is killed, one that is back, one that is paused. The
// containers, their networks and volumes are gone at the end, whatever happened.
func Compose(ctx context.Context, cfg ComposeConfig) (err error) {
	s := newStory(cfg.Talk)
	c := &containers{story: s, cfg: cfg, project: "coffer-demo-" + strconv.Itoa(os.Getpid()), ids: map[string]string{}}
	s.venue = c
	if err := c.find(ctx); err != nil {
		return err
	}
	defer func() { err = c.end(ctx, err) }()
	result, err := s.play(ctx)
	if err != nil {
		return err
	}
	if err := s.acts(ctx, result, c.actKilled, c.actBack, c.actPaused); err != nil {
		return err
	}
	if err := cfg.Done(result); err != nil {
		return err
	}
	if cfg.Keep {
		c.explain()
		<-ctx.Done()
	}
	return nil
}

// containers is the venue of Compose: each member of the cluster is a container.
type containers struct {
	*story
	cfg     ComposeConfig
	docker  string
	compose []string // program and first arguments: version 1 and 2 differ
	project string
	ids     map[string]string // container by service
}

// find looks for what the story needs, before anything is made.
func (c *containers) find(ctx context.Context) (err error) {
	if c.docker, err = exec.LookPath("docker"); err != nil {
		return fmt.Errorf("docker is not installed: %w", err)
	}
	if _, _, err := command(ctx, nil, c.docker, "info"); err != nil {
		return fmt.Errorf("no Docker daemon answers; start one, or use scripts/docker.sh: %w", err)
	}
	if _, _, err := command(ctx, nil, c.docker, "image", "inspect", demoImage); err != nil {
		return fmt.Errorf("the image %s is missing: run make images", demoImage)
	}
	file, err := filepath.Abs(c.cfg.File)
	if err != nil {
		return err
	}
	if _, err := os.Stat(file); err != nil {
		return fmt.Errorf("--file: %w", err)
	}
	if path, err := exec.LookPath("docker-compose"); err == nil {
		c.compose = []string{path}
	} else if _, _, err := command(ctx, nil, c.docker, "compose", "version"); err == nil {
		c.compose = []string{c.docker, "compose"}
	} else {
		return errors.New("neither docker-compose nor docker compose is installed")
	}
	c.compose = append(c.compose, "--file", file, "--project-name", c.project)
	return nil
}

// run is one command of docker-compose.
func (c *containers) run(ctx context.Context, progress func(string), args ...string) (stdout string, code int, err error) {
	return command(ctx, progress, c.compose[0], append(c.compose[1:len(c.compose):len(c.compose)], args...)...)
}

func (c *containers) daemons() []string {
	out := []string{"chain", "coordinator"}
	for _, s := range signers {
		out = append(out, service(s.name))
	}
	return out
}

func service(signer string) string { return "signer-" + signer }

// setup starts everything; the one-shot service "setup" holds the ceremony.
func (c *containers) setup(ctx context.Context) error {
	s := c.story
	s.say("starting three signers, a coordinator and a dev chain, a container each, on networks of their own")
	upCtx, cancel := context.WithTimeout(ctx, upWithin)
	defer cancel()
	if _, _, err := c.run(upCtx, nil, "up", "--detach", "--no-build"); err != nil {
		return err
	}
	if err := c.healthy(ctx, c.daemons()...); err != nil {
		return err
	}
	if err := c.ready(ctx, len(signers)); err != nil {
		return err
	}
	return c.fences(ctx)
}

// member is what Docker says of one container.
type member struct {
	ID    string `json:"Id"`
	State struct{ Health struct{ Status string } }
	// NetworkSettings names networks with the project's name in front.
	NetworkSettings struct {
		Networks map[string]struct{ IPAddress string }
	}
}

// members asks Docker about the services' containers, in their order.
func (c *containers) members(ctx context.Context, services ...string) ([]member, error) {
	args := []string{"inspect"}
	for _, name := range services {
		id, ok := c.ids[name]
		if !ok {
			out, _, err := c.run(ctx, nil, "ps", "--quiet", name)
			if id = strings.TrimSpace(out); err != nil || id == "" {
				return nil, errors.Join(fmt.Errorf("%s has no container", name), err)
			}
			c.ids[name] = id
		}
		args = append(args, id)
	}
	out, _, err := command(ctx, nil, c.docker, args...)
	if err != nil {
		return nil, err
	}
	var all []member
	if err := json.Unmarshal([]byte(out), &all); err != nil {
		return nil, fmt.Errorf("read docker's answer: %w", err)
	}
	if len(all) != len(services) {
		return nil, fmt.Errorf("docker knows %d of %d containers", len(all), len(services))
	}
	return all, nil
}

// poll tries until f says nil, or the time is up.
func poll(ctx context.Context, within time.Duration, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	var last error
	for {
		err := f(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return errors.Join(last, ctx.Err())
		case <-tick.C:
		}
	}
}

// healthy waits until the services' own health checks pass.
func (c *containers) healthy(ctx context.Context, services ...string) error {
	return poll(ctx, healthWithin, func(ctx context.Context) error {
		all, err := c.members(ctx, services...)
		if err != nil {
			return err
		}
		for i, m := range all {
			if state := m.State.Health.Status; state != "healthy" {
				return fmt.Errorf("%s is %s", services[i], state)
			}
		}
		return nil
	})
}

// ready waits until the coordinator finds that many signers connected to it, unsealed,
// and to each other.
func (c *containers) ready(ctx context.Context, want int) error {
	return poll(ctx, healthWithin, func(ctx context.Context) error {
		out, _, err := c.run(ctx, nil, "exec", "-T", "coordinator", "/coffer-coordinator", "status", "--dir", "/data", "--json")
		if err != nil {
			return err
		}
		var st struct {
			Signers []struct {
				Reachable bool     `json:"reachable"`
				Sealed    bool     `json:"sealed"`
				Peers     []string `json:"connected_to"`
			} `json:"signers"`
		}
		if err := json.Unmarshal([]byte(out), &st); err != nil {
			return fmt.Errorf("read the coordinator's answer: %w", err)
		}
		n := 0
		for _, s := range st.Signers {
			if s.Reachable && !s.Sealed && len(s.Peers) >= want-1 {
				n++
			}
		}
		if n < want {
			return fmt.Errorf("%d of %d signers are ready", n, want)
		}
		return nil
	})
}

// fences finds out that the networks let through what they should and nothing else.
// Addresses, not names: a name that is not known says nothing about the way.
func (c *containers) fences(ctx context.Context) error {
	c.say("trying the networks: signers reach each other, only the coordinator reaches the chain")
	services := c.daemons()
	all, err := c.members(ctx, services...)
	if err != nil {
		return err
	}
	at := func(service, network, port string) string {
		m := all[slices.Index(services, service)]
		return m.NetworkSettings.Networks[c.network(network)].IPAddress + ":" + port
	}
	ways := map[string]map[string]bool{} // from a service to an address: whether it should be open
	for _, name := range services {
		ways[name] = map[string]bool{}
	}
	ways["coordinator"][at("chain", "chain", "8545")] = true
	for i, sg := range signers {
		next := signers[(i+1)%len(signers)].name
		ways["coordinator"][at(service(sg.name), "desk-"+sg.name, "7002")] = true
		ways["chain"][at(service(sg.name), "desk-"+sg.name, "7002")] = false
		from := ways[service(sg.name)]
		from[at(service(next), "mesh", "7001")] = true
		from[at(service(next), "desk-"+next, "7002")] = false
		from[at("chain", "chain", "8545")] = false
		from[at("coordinator", "chain", "7000")] = false
		from[at("coordinator", "office", "7000")] = false
		from[at(service(next), "orders-"+next, "7003")] = false
		ways["coordinator"][at(service(sg.name), "orders-"+sg.name, "7003")] = false
	}
	errs := make([]error, len(services))
	var tries sync.WaitGroup
	for i, name := range services {
		tries.Go(func() { errs[i] = c.try(ctx, name, all[i].ID, ways[name]) })
	}
	tries.Wait()
	return errors.Join(errs...)
}

// try dials from a container's own networks.
func (c *containers) try(ctx context.Context, service, id string, ways map[string]bool) error {
	args := []string{"run", "--rm", "--network", "container:" + id, "--read-only", "--cap-drop", "ALL", demoImage, "reach", "--json"}
	out, code, err := command(ctx, nil, c.docker, append(args, sorted(ways)...)...)
	if err != nil && code != 1 {
		return fmt.Errorf("try the networks of %s: %w", service, err)
	}
	var open map[string]bool
	if err := json.Unmarshal([]byte(out), &open); err != nil {
		return fmt.Errorf("try the networks of %s: %w", service, err)
	}
	for _, address := range sorted(ways) {
		switch is, known := open[address]; {
		case !known:
			return fmt.Errorf("%s did not try %s", service, address)
		case is && !ways[address]:
			return fmt.Errorf("%s reaches %s, and must not", service, address)
		case !is && ways[address]:
			return fmt.Errorf("%s does not reach %s", service, address)
		}
	}
	return nil
}

func (c *containers) as(ctx context.Context, person string, progress func(string), args ...string) (stdout string, code int, err error) {
	return c.run(ctx, progress, append([]string{"run", "--rm", "--no-deps", "-T", person}, args...)...)
}

func (c *containers) signerSays(ctx context.Context, name string, args ...string) (stdout string, code int, err error) {
	return c.run(ctx, nil, append([]string{"exec", "-T", service(name), "/coffer-signer", "--dir", "/data"}, args...)...)
}

// hold pauses a container, by docker, which is quicker than docker-compose: a session
// takes a second or two.
func (c *containers) hold(ctx context.Context, name string) error {
	_, _, err := command(ctx, nil, c.docker, "pause", c.ids[service(name)])
	return err
}

func (c *containers) letGo(ctx context.Context, name string) error {
	_, _, err := command(ctx, nil, c.docker, "unpause", c.ids[service(name)])
	return err
}

// cutOff takes the coordinator off the one network that it shares with the signer.
func (c *containers) cutOff(ctx context.Context, name string) error {
	_, _, err := command(ctx, nil, c.docker, "network", "disconnect", c.network("desk-"+name), c.ids["coordinator"])
	return err
}

func (c *containers) reconnect(ctx context.Context, name string) error {
	_, _, err := command(ctx, nil, c.docker, "network", "connect", c.network("desk-"+name), c.ids["coordinator"])
	if err != nil {
		return err
	}
	return c.ready(ctx, len(signers))
}

func (c *containers) network(name string) string { return c.project + "_" + name }

func (c *containers) fund(ctx context.Context, to string, ether int64) error {
	_, _, err := c.run(ctx, nil, "exec", "-T", "chain", "/coffer-demo", "fund", to, strconv.FormatInt(ether, 10))
	return err
}

func (c *containers) balance(ctx context.Context, address string) (*big.Int, error) {
	out, _, err := c.run(ctx, nil, "exec", "-T", "chain", "/coffer-demo", "balance", address, "--json")
	if err != nil {
		return nil, err
	}
	var shown struct{ Wei string }
	if err := json.Unmarshal([]byte(out), &shown); err != nil {
		return nil, fmt.Errorf("read the balance: %w", err)
	}
	wei, ok := new(big.Int).SetString(shown.Wei, 10)
	if !ok {
		return nil, fmt.Errorf("read the balance: %q is no number", shown.Wei)
	}
	return wei, nil
}

// actKilled kills a signer that took part in the first payment.
func (c *containers) actKilled(ctx context.Context, result *Result) (*Act, error) {
	gone := result.Acts[0].Signers[0]
	c.say("killing the container of signer %s", gone)
	if _, _, err := c.run(ctx, nil, "kill", service(gone)); err != nil {
		return nil, err
	}
	a, err := c.pay(ctx, result, fmt.Sprintf("signer %s is killed; the two that are left pay", gone), smallAmount)
	if err == nil && slices.Contains(a.Signers, gone) {
		err = fmt.Errorf("signer %s signed and was dead", gone)
	}
	return a, err
}

// actBack starts it again, and stops another, so that nothing goes without it.
func (c *containers) actBack(ctx context.Context, result *Result) (*Act, error) {
	back := result.Acts[0].Signers[0]
	c.say("starting signer %s again", back)
	if _, _, err := c.run(ctx, nil, "start", service(back)); err != nil {
		return nil, err
	}
	if err := c.healthy(ctx, service(back)); err != nil {
		return nil, err
	}
	if err := c.ready(ctx, len(signers)); err != nil {
		return nil, err
	}
	other := result.Acts[0].Signers[1]
	c.say("stopping signer %s, so that nothing goes without %s", other, back)
	if _, _, err := c.run(ctx, nil, "stop", service(other)); err != nil {
		return nil, err
	}
	a, err := c.pay(ctx, result, fmt.Sprintf("signer %s is back and signs; %s is stopped", back, other), smallAmount)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(a.Signers, back) {
		return nil, fmt.Errorf("signer %s did not sign", back)
	}
	if _, _, err := c.run(ctx, nil, "start", service(other)); err != nil {
		return nil, err
	}
	return a, c.ready(ctx, len(signers))
}

// actPaused freezes a signer's container in the middle of a session: its connections
// stay open and nothing answers.
func (c *containers) actPaused(ctx context.Context, result *Result) (*Act, error) {
	start, act := time.Now(), len(result.Acts)+1
	for try := 1; ; try++ {
		w, err := c.inSession(ctx, act, smallAmount)
		if err != nil {
			return nil, err
		}
		paused := w.held
		want, err := policy.ParseAmount(smallAmount, etherDecimals)
		if err != nil {
			return nil, err
		}
		a, err := c.paid(ctx, w.underway, result, act, fmt.Sprintf("signer %s is paused in mid-session; the others finish", paused), want, start)
		if err != nil {
			return nil, err
		}
		c.say("signer %s goes on", paused)
		if err := c.letGo(ctx, paused); err != nil {
			return nil, err
		}
		if err := c.ready(ctx, len(signers)); err != nil {
			return nil, err
		}
		if !slices.Contains(a.Signers, paused) {
			return a, nil
		}
		if try == earlyTries {
			return nil, fmt.Errorf("%w: signer %s had signed", errEarly, paused)
		}
		c.say("signer %s had signed; once more", paused)
		c.again++
	}
}

// end takes everything down. When the story failed, the containers' last words first.
func (c *containers) end(ctx context.Context, err error) error {
	interrupted := ctx.Err() != nil
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), downWithin)
	defer cancel()
	if err != nil && !interrupted && c.talk != nil {
		if out, _, logErr := c.run(ctx, nil, "logs", "--no-color", "--tail", "20"); logErr == nil {
			fmt.Fprintln(c.talk, out)
		}
	}
	c.say("removing the containers, their networks and volumes")
	for _, s := range signers {
		_, _, _ = c.run(ctx, nil, "unpause", service(s.name)) // it mostly is not paused
	}
	_, _, downErr := c.run(ctx, nil, "down", "--volumes", "--remove-orphans", "--timeout", "5")
	return errors.Join(err, downErr)
}

func (c *containers) explain() {
	if c.cfg.Talk == nil {
		return
	}
	fmt.Fprintf(c.cfg.Talk, `
The containers stay up until Ctrl-C. In another terminal:

  export COMPOSE_FILE=%s COMPOSE_PROJECT_NAME=%s
  docker-compose run --rm alice history
  docker-compose run --rm alice pay 0.25 ETH %s --from %s --ref INV-20
  docker-compose run --rm bob approve INTENT
  docker-compose exec signer-a /coffer-signer status --dir /data
  docker-compose logs --follow
`, c.cfg.File, c.project, supplier, walletName)
}
