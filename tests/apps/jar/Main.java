import com.sun.net.httpserver.HttpServer;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** A program of its own: reads its port, answers. Built into a jar by the tests (java_samples.py). */
public final class Main {
    private Main() {}

    static String fact(String name) {
        Matcher found = Pattern.compile("\"" + name + "\": ?\"?([^\",}]*)").matcher(String.valueOf(System.getenv("VCAP_APPLICATION")));
        return found.find() ? "\"" + found.group(1) + "\"" : "null";
    }

    static String variable(String name) {
        String value = System.getenv(name);
        return value == null ? "null" : "\"" + value + "\"";
    }

    public static void main(String[] arguments) throws Exception {
        HttpServer server = HttpServer.create(new InetSocketAddress("0.0.0.0", Integer.parseInt(System.getenv("PORT"))), 50);
        server.createContext("/", exchange -> {
            if (exchange.getRequestURI().getPath().equals("/crash")) {
                Runtime.getRuntime().halt(3);
            }
            String body = "{\"framework\": \"standalone\", \"name\": " + fact("name") + ", \"version\": " + fact("version")
                + ", \"instance_id\": " + fact("instance_id") + ", \"dea\": " + variable("VCAP_APP_HOST")
                + ", \"port\": " + variable("PORT") + ", \"runtime\": \"" + System.getProperty("java.version") + "\""
                + ", \"heap_mb\": " + Runtime.getRuntime().maxMemory() / 1048576 + ", \"greeting\": " + variable("GREETING") + "}\n";
            byte[] bytes = body.getBytes(StandardCharsets.UTF_8);
            exchange.getResponseHeaders().set("Content-Type", "application/json");
            exchange.sendResponseHeaders(200, bytes.length);
            exchange.getResponseBody().write(bytes);
            exchange.close();
        });
        server.start();
    }
}
