import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;

/** 32 threads that read, list, fault and start programs. Prints the same lines each time. */
public class Storm {
    static Object nothing;

    static int deep(int n) {
        return 1 + deep(n + 1);
    }

    /** What one thread does; the sum of what went right. */
    static int work(int number) throws Exception {
        int right = 0;
        for (int i = 0; i < 200; i++) {
            if (Files.readString(Path.of("/etc/debian_version")).startsWith("12")) right++;
            if (!Files.exists(Path.of("/no/such/" + number + "/" + i))) right++;
            try {
                nothing.hashCode();
            } catch (NullPointerException e) {
                right++;
            }
        }
        for (int i = 0; i < 3; i++) {
            try {
                deep(0);
            } catch (StackOverflowError e) {
                right++;
            }
        }
        Process child = new ProcessBuilder("/bin/echo", "child " + number).start();
        String text = new String(child.getInputStream().readAllBytes());
        if (child.waitFor() == 0 && text.equals("child " + number + "\n")) right++;
        return right;
    }

    public static void main(String[] words) throws Exception {
        ExecutorService pool = Executors.newFixedThreadPool(32);
        List<Future<Integer>> results = new ArrayList<>();
        for (int i = 0; i < 32; i++) {
            final int number = i;
            results.add(pool.submit((Callable<Integer>) () -> work(number)));
        }
        int right = 0;
        for (Future<Integer> result : results) right += result.get();
        pool.shutdown();
        System.out.println("right " + right);
        try (var names = Files.walk(Path.of("/usr/lib/jvm"))) {
            System.out.println("files " + names.count());
        }
        Files.writeString(Path.of("/tmp/written"), "by java\n");
        System.out.print(Files.readString(Path.of("/tmp/written")));
        System.out.println("home " + System.getProperty("java.home"));
        System.exit(7);
    }
}
