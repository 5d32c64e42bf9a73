<%@ page contentType="application/json; charset=UTF-8" import="javax.servlet.http.HttpServletRequest" trimDirectiveWhitespaces="true" %>
<%!
  static String quoted(String value) {
    return value == null ? "null" : "\"" + value.replace("\\", "\\\\").replace("\"", "\\\"") + "\"";
  }

  static String fact(String name) {
    String told = String.valueOf(System.getenv("VCAP_APPLICATION"));
    java.util.regex.Matcher found = java.util.regex.Pattern.compile("\"" + name + "\": ?\"?([^\",}]*)").matcher(told);
    return found.find() ? found.group(1) : null;
  }
%>
<% HttpServletRequest asked = request; %>
{"framework": "java_web", "name": <%= quoted(fact("name")) %>, "version": <%= quoted(fact("version")) %>,
 "instance": <%= fact("instance_index") %>, "instance_id": <%= quoted(fact("instance_id")) %>,
 "dea": <%= quoted(System.getenv("VCAP_APP_HOST")) %>, "port": <%= quoted(System.getenv("PORT")) %>,
 "runtime": <%= quoted(System.getProperty("java.version")) %>, "path": <%= quoted(asked.getRequestURI()) %>,
 "heap_mb": <%= Runtime.getRuntime().maxMemory() / 1048576 %>, "greeting": <%= quoted(System.getenv("GREETING")) %>}
