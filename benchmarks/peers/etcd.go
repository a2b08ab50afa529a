// Changes, reads and watches by etcd's own Go client, for benchmarks/peers/etcd.py.
//
// put   ADDRESS MILLISECONDS CLIENTS PREFIX SIZE -> {"count", "seconds", "latencies"}
// fill  ADDRESS GROUPS EACH SIZE                 -> {"count"}
// get   ADDRESS MILLISECONDS GROUPS EACH         -> {"count", "seconds"}
// list  ADDRESS MILLISECONDS GROUP               -> {"count", "seconds", "rows"}
// watch ADDRESS MILLISECONDS PAUSE RATE SIZE     -> {"latencies", "load"}
//
// Every client of `put` has a connection of its own and changes a key of its own, one
// change after the other, each only if the key is as it was left. Reads are serializable,
// which is etcd's fast way. Latencies are in seconds.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/clientv3"
)

var background = context.Background()

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func number(text string) int {
	found, err := strconv.Atoi(text)
	check(err)
	return found
}

func connect(address string) *clientv3.Client {
	client, err := clientv3.New(clientv3.Config{
		Endpoints:   []string{address},
		DialTimeout: 5 * time.Second,
	})
	check(err)
	return client
}

// change puts a value on the condition that nobody else has changed the key.
func change(client *clientv3.Client, key, value string, revision int64) int64 {
	unchanged := clientv3.Compare(clientv3.ModRevision(key), "=", revision)
	answer, err := client.Txn(background).
		If(unchanged).Then(clientv3.OpPut(key, value)).Commit()
	check(err)
	if !answer.Succeeded {
		check(fmt.Errorf("%s was changed by somebody else", key))
	}
	return answer.Header.Revision
}

func main() {
	command, address, rest := os.Args[1], os.Args[2], os.Args[3:]
	var found interface{}
	switch command {
	case "put":
		found = put(address, number(rest[0]), number(rest[1]), rest[2], number(rest[3]))
	case "fill":
		found = fill(address, number(rest[0]), number(rest[1]), number(rest[2]))
	case "get":
		found = get(address, number(rest[0]), number(rest[1]), number(rest[2]))
	case "list":
		found = list(address, number(rest[0]), number(rest[1]))
	case "watch":
		found = watch(address, number(rest[0]), number(rest[1]), number(rest[2]), number(rest[3]))
	default:
		check(fmt.Errorf("no command %q", command))
	}
	check(json.NewEncoder(os.Stdout).Encode(found))
}

func put(address string, milliseconds, clients int, prefix string, size int) interface{} {
	var ready, done sync.WaitGroup
	var together sync.Mutex
	var latencies []float64
	var ended time.Time
	begin := make(chan time.Time)
	value := strings.Repeat("x", size)
	for index := 0; index < clients; index++ {
		key := fmt.Sprintf("%s/%d", prefix, index)
		ready.Add(1)
		done.Add(1)
		go func() {
			defer done.Done()
			client := connect(address)
			defer client.Close()
			revision := change(client, key, value, 0)
			ready.Done()
			stop := <-begin
			var own []float64
			called := time.Now()
			for called.Before(stop) {
				revision = change(client, key, value, revision)
				answered := time.Now()
				own = append(own, answered.Sub(called).Seconds())
				called = answered
			}
			kept, err := client.Get(background, key)
			check(err)
			if kept.Kvs[0].Version != int64(len(own))+1 {
				check(fmt.Errorf("%s has %d versions, not %d", key, kept.Kvs[0].Version, len(own)+1))
			}
			together.Lock()
			if called.After(ended) {
				ended = called
			}
			latencies = append(latencies, own...)
			together.Unlock()
		}()
	}
	ready.Wait()
	began := time.Now()
	for index := 0; index < clients; index++ {
		begin <- began.Add(time.Duration(milliseconds) * time.Millisecond)
	}
	done.Wait()
	seconds := ended.Sub(began).Seconds()
	return map[string]interface{}{"count": len(latencies), "seconds": seconds, "latencies": latencies}
}

func name(group, index int) string {
	return fmt.Sprintf("/Dataplane/mesh-%d/dp-%06d", group, index)
}

func fill(address string, groups, each, size int) interface{} {
	client := connect(address)
	defer client.Close()
	value := strings.Repeat("x", size)
	for group := 0; group < groups; group++ {
		for first := 0; first < each; first += 100 {
			var puts []clientv3.Op
			for index := first; index < first+100 && index < each; index++ {
				puts = append(puts, clientv3.OpPut(name(group, index), value))
			}
			_, err := client.Txn(background).Then(puts...).Commit()
			check(err)
		}
	}
	answer, err := client.Get(background, "/Dataplane/", clientv3.WithPrefix(), clientv3.WithCountOnly())
	check(err)
	return map[string]interface{}{"count": answer.Count}
}

func get(address string, milliseconds, groups, each int) interface{} {
	client := connect(address)
	defer client.Close()
	count := 0
	began := time.Now()
	stop := began.Add(time.Duration(milliseconds) * time.Millisecond)
	for time.Now().Before(stop) {
		answer, err := client.Get(background, name(rand.Intn(groups), rand.Intn(each)), clientv3.WithSerializable())
		check(err)
		if len(answer.Kvs) != 1 {
			check(fmt.Errorf("a key is missing"))
		}
		count++
	}
	return map[string]interface{}{"count": count, "seconds": time.Since(began).Seconds()}
}

func list(address string, milliseconds, group int) interface{} {
	client := connect(address)
	defer client.Close()
	count, rows := 0, 0
	prefix := fmt.Sprintf("/Dataplane/mesh-%d/", group)
	began := time.Now()
	stop := began.Add(time.Duration(milliseconds) * time.Millisecond)
	for time.Now().Before(stop) {
		answer, err := client.Get(background, prefix, clientv3.WithPrefix(), clientv3.WithSerializable())
		check(err)
		rows = len(answer.Kvs)
		count++
	}
	return map[string]interface{}{"count": count, "seconds": time.Since(began).Seconds(), "rows": rows}
}

// watch tells how long each change took from its call until a watcher on another
// connection had it; other callers change other keys meanwhile, `rate` times a second.
func watch(address string, milliseconds, pause, rate, size int) interface{} {
	const callers = 8
	writer, watcher := connect(address), connect(address)
	defer writer.Close()
	defer watcher.Close()
	loading, stopLoad := context.WithCancel(background)
	defer stopLoad()
	value := strings.Repeat("x", size)
	var loaded int64
	if rate > 0 {
		for index := 0; index < callers; index++ {
			key := fmt.Sprintf("/load/%d", index)
			go func() {
				client := connect(address)
				defer client.Close()
				ticks := time.NewTicker(time.Second * callers / time.Duration(rate))
				defer ticks.Stop()
				for loading.Err() == nil {
					<-ticks.C
					_, err := client.Put(background, key, value)
					check(err)
					atomic.AddInt64(&loaded, 1)
				}
			}()
		}
	}
	var calls sync.Map
	var seen []float64
	var got sync.WaitGroup
	events := watcher.Watch(clientv3.WithRequireLeader(background), "/", clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	<-events // it is there
	go func() {
		for answer := range events {
			now := time.Now()
			check(answer.Err())
			for _, event := range answer.Events {
				if called, ours := calls.Load(string(event.Kv.Key)); ours {
					seen = append(seen, now.Sub(called.(time.Time)).Seconds())
					got.Done()
				}
			}
		}
	}()
	began := time.Now()
	ticks := time.NewTicker(time.Duration(pause) * time.Millisecond)
	for index := 0; index < milliseconds/pause; index++ {
		<-ticks.C
		key := fmt.Sprintf("/probe/%d-%d", time.Now().UnixNano(), index)
		got.Add(1)
		calls.Store(key, time.Now())
		_, err := writer.Put(background, key, value)
		check(err)
	}
	got.Wait()
	load := float64(atomic.LoadInt64(&loaded)) / time.Since(began).Seconds()
	return map[string]interface{}{"latencies": seen, "load": load}
}
