// The Go runtime under a tracer: goroutines that look, read and execute, a storm of signals, threads that end, faults
// that are recovered. Prints one line per part, the same ones each time.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

func check(err error) {
	if err != nil {
		fmt.Println("failed:", err)
		os.Exit(1)
	}
}

// 1000 goroutines, each of which asks, reads and lists; every 50th executes a program.
func goroutines() {
	var group sync.WaitGroup
	var looked, executed int64
	for i := 0; i < 1000; i++ {
		group.Add(1)
		go func(i int) {
			defer group.Done()
			for round := 0; round < 10; round++ {
				_, err := os.Stat("/etc/passwd")
				check(err)
				if _, err := os.Stat(fmt.Sprintf("/no/such/%d", i)); !os.IsNotExist(err) {
					check(fmt.Errorf("a file that is not there: %v", err))
				}
				atomic.AddInt64(&looked, 1)
			}
			text, err := os.ReadFile("/etc/debian_version")
			check(err)
			if !strings.HasPrefix(string(text), "12") {
				check(fmt.Errorf("another Debian: %s", text))
			}
			if i%50 == 0 {
				output, err := exec.Command("/bin/echo", fmt.Sprint(i)).Output()
				check(err)
				if strings.TrimSpace(string(output)) != fmt.Sprint(i) {
					check(fmt.Errorf("echo %d said %s", i, output))
				}
				atomic.AddInt64(&executed, 1)
			}
		}(i)
	}
	group.Wait()
	fmt.Println("goroutines", looked, executed)
}

// Signals from outside the runtime, while goroutines make calls and the runtime preempts them by signals of its own.
func storm() {
	signals := make(chan os.Signal, 4096)
	signal.Notify(signals, syscall.SIGUSR1)
	var seen int64
	go func() {
		for range signals {
			atomic.AddInt64(&seen, 1)
		}
	}()
	var stop int32
	var group sync.WaitGroup
	for i := 0; i < 8; i++ {
		group.Add(1)
		go func() {
			defer group.Done()
			for n := 0; atomic.LoadInt32(&stop) == 0; n++ {
				if n%2 == 0 {
					_, err := os.Stat("/etc/hostname.none")
					if !os.IsNotExist(err) {
						check(fmt.Errorf("a file that is not there: %v", err))
					}
				} else {
					for spin := 0; spin < 100000; spin++ {
					}
				}
			}
		}()
	}
	for i := 0; i < 2000; i++ {
		check(syscall.Kill(syscall.Getpid(), syscall.SIGUSR1))
	}
	for since := time.Now(); atomic.LoadInt64(&seen) == 0 && time.Since(since) < 20*time.Second; {
		time.Sleep(time.Millisecond)
	}
	atomic.StoreInt32(&stop, 1)
	group.Wait()
	fmt.Println("storm", atomic.LoadInt64(&seen) > 0)
}

// Threads that end with their locked goroutine.
func threads() {
	var group sync.WaitGroup
	for i := 0; i < 60; i++ {
		group.Add(1)
		go func() {
			defer group.Done()
			runtime.LockOSThread()
			_, err := os.Stat("/usr")
			check(err)
		}()
	}
	group.Wait()
	fmt.Println("threads 60")
}

type node struct{ value int }

func fault(pointer *node) (text string) {
	defer func() { text = fmt.Sprint(recover()) }()
	return fmt.Sprint(pointer.value)
}

func main() {
	if len(os.Args) > 1 {
		fmt.Println("again", fault(nil))
		return
	}
	goroutines()
	storm()
	threads()
	recovered := 0
	for i := 0; i < 100; i++ {
		if fault(nil) == "runtime error: invalid memory address or nil pointer dereference" {
			recovered++
		}
	}
	fmt.Println("recovered", recovered)
	output, err := exec.Command("/proc/self/exe", "again").CombinedOutput()
	check(err)
	fmt.Print(string(output))
	path, err := os.Executable()
	check(err)
	fmt.Println("executable", path)
}
