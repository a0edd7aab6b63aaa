// The client of the product page: System.Net.WebClient and its UploadData, as .NET 4 has them.
// Usage: documented_client.exe URL USER PASSWORD BODY.json [at-once]
// An empty user sends no Authorization header; at-once asks for no "100 Continue" first. Prints one line: the code and its description, or
// "answer" and how many predictions there are; "exception" where the class throws.
using System;
using System.Collections.Generic;
using System.IO;
using System.Net;
using System.Text;
using System.Web.Script.Serialization;

static class DocumentedClient
{
    static int Main(string[] given)
    {
        ServicePointManager.Expect100Continue = given.Length < 5;
        var client = new WebClient();
        if (given[1] != "")
        {
            var pair = Encoding.ASCII.GetBytes(given[1] + ":" + given[2]);
            client.Headers["Authorization"] = "Basic " + Convert.ToBase64String(pair);
        }
        client.Headers["Accept"] = "application/json";
        client.Headers["Content-Type"] = "application/json";
        try
        {
            var answer = client.UploadData(new Uri(given[0]), "post", File.ReadAllBytes(given[3]));
            var text = Encoding.UTF8.GetString(answer);
            var parser = new JavaScriptSerializer { MaxJsonLength = int.MaxValue };
            if (text.IndexOf("predictions") > 0)
            {
                var photo = (Dictionary<string, object>)parser.DeserializeObject(text);
                Console.WriteLine("answer " + ((object[])photo["predictions"]).Length);
            }
            else
            {
                var errors = (object[])parser.DeserializeObject(text);
                var error = (Dictionary<string, object>)errors[0];
                Console.WriteLine(error["cd"] + " " + error["description"]);
            }
            return 0;
        }
        catch (Exception error)
        {
            Console.WriteLine("exception " + error.GetType().Name + " " + error.Message);
            return 1;
        }
    }
}
